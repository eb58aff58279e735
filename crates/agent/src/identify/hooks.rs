//! Step 9: notifies the workload. The hooks that the image provides run first.
//! Then the container's own process is sent a signal, which it handles after the thaw.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, Identity};

use super::program;
use super::step_log::StepSuccess;
use crate::cgroup;
use crate::failure::{Context, SystemError, failure};
use crate::machine::{Container, Machine, State};
use crate::signal;

const DIRECTORY: &str = "/etc/mimeo/clone.d";
/// Timeout of one hook.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn apply(
    machine: &Machine,
    container: &Container,
    identity: &Identity,
    hooks: Result<Vec<String>, Failure>,
) -> Result<StepSuccess, Failure> {
    let hooks = hooks?;
    if identity.warm_up {
        return Ok(StepSuccess::NotNeeded);
    }
    for name in &hooks {
        let args = vec![format!("{DIRECTORY}/{name}")];
        let run = program::run(machine, container, args, environment(identity), HOOK_TIMEOUT).await;
        run.map_err(|failed| failure(failed.kind, format!("{name}: {failed}")))?;
    }
    if !hooks.is_empty() {
        // Processes that a hook left running are part of the workload, and are thawed with it.
        cgroup::absorb_aside()?;
    }
    if let (Some(number), State::Running(_)) = (identity.signal, machine.state()) {
        // PID 1 of a namespace receives only signals that it handles, so this does not kill it.
        signal::send(&container.pidfd, number).context(format!("send signal {number}"))?;
    }
    Ok(match (hooks.is_empty(), identity.signal) {
        (true, None) => StepSuccess::NotNeeded,
        (true, Some(_)) => StepSuccess::Done,
        (false, _) => StepSuccess::DoneWith(hooks.join(" ")),
    })
}

/// The names of the hooks, in the order in which they run.
pub(super) fn list() -> Result<Vec<String>, SystemError> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SystemError::new(format!("list {DIRECTORY}"), error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context(format!("list {DIRECTORY}"))?;
        let is_executable =
            |found: std::fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
        if std::fs::metadata(entry.path()).is_ok_and(is_executable) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn environment(identity: &Identity) -> BTreeMap<String, String> {
    let Identity { vm_generation, machine, hostname, .. } = identity;
    [("MIMEO_GENERATION", vm_generation), ("MIMEO_MACHINE", machine), ("MIMEO_HOSTNAME", hostname)]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
}
