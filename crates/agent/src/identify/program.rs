//! Runs programs of the container to their end while it is frozen.

use std::collections::BTreeMap;
use std::time::Duration;

use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Process};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::blocking::ContainerRoot;
use crate::console::log;
use crate::failure::failure;
use crate::launch::{self, LaunchInto, Launched};
use crate::machine::{Container, Machine};
use crate::streams::{self, OutputTail};

/// Runs a program as root. It must exit with code 0 within `timeout`.
pub(super) async fn run(
    machine: &Machine,
    container: &Container,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    timeout: Duration,
) -> Result<(), Failure> {
    let mut process = Process { args, env, cwd: "/".to_owned(), aside: true, ..Process::default() };
    // The workload may have written the program, which must not get it more than it has.
    process.privileges = container.privileges.for_process(&process);
    let (process_ends, agent_ends) = streams::create(&process)?;
    let root = ContainerRoot::MountNamespace(container.mount_ns.clone());
    let command = launch::resolve(process, root, machine.hostname(), false).await?;
    let launched =
        launch::launch(&command, LaunchInto::Aside(container), process_ends, &machine.reaper).await?;
    let tail = OutputTail::read(agent_ends);
    let outcome = wait(launched, timeout).await;
    let output = tail.last_line().await;
    outcome.map_err(|error| {
        let message = if output.is_empty() { error } else { format!("{error}: {output}") };
        failure(FailureKind::System, message)
    })
}

async fn wait(launched: Launched, timeout: Duration) -> Result<(), String> {
    let Launched { pid, ended, .. } = launched;
    match tokio::time::timeout(timeout, ended).await {
        Ok(Ok(ExitStatus::Code(0))) => Ok(()),
        Ok(Ok(ExitStatus::Code(code))) => Err(format!("exit code {code}")),
        Ok(Ok(ExitStatus::Signal(signal))) => Err(format!("killed by signal {signal}")),
        Ok(Ok(ExitStatus::OutOfMemory) | Err(_)) => Err("killed by the kernel".to_owned()),
        Err(_) => {
            // The program leads a process group, which holds its children too.
            if let Some(pid) = Pid::from_raw(pid)
                && let Err(errno) = kill_process_group(pid, Signal::KILL)
            {
                log(&format!("cannot kill process group {pid:?}: {errno}"));
            }
            Err(format!("not done after {} seconds", timeout.as_secs()))
        }
    }
}
