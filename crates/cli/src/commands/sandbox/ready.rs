//! Waits until the system of a sandbox has started.

use mimeo_engine::Found;
use mimeo_engine::act::ExecProcess;

use crate::backend::{Host, ProcessItem};
use crate::error::CliError;

/// Waits until systemd has finished its start, with or without units that failed. `systemctl` waits by itself once systemd
/// answers, which is a moment after it became PID 1. Of another init it is not known when it has finished.
const SCRIPT: &str = "command -v systemctl >/dev/null || exit 0; while :; do state=$(systemctl is-system-running --wait 2>/dev/null); \
     case $state in running|degraded|maintenance) exit 0;; stopping) exit 1;; esac; sleep 0.2; done";

/// Waits until the system has started.
pub(super) async fn wait(host: &Host, machine: &Found) -> Result<(), CliError> {
    let process =
        ExecProcess { command: ["sh", "-c", SCRIPT].map(str::to_owned).into(), ..ExecProcess::default() };
    let (_, mut stream) = host.exec(machine, process).await?;
    loop {
        match stream.output.next().await.map_err(CliError::from)? {
            ProcessItem::Exited(0) => return Ok(()),
            ProcessItem::Exited(code) => {
                return Err(CliError::usage(format!("the system stops again (exit code {code})")));
            }
            ProcessItem::Stdout(_) | ProcessItem::Stderr(_) => {}
        }
    }
}
