//! Line 9: the workload is told. Programs that the image brings for it run
//! first, then its own process gets a signal, which it takes when it goes on.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, Identity};

use super::program;
use super::record::Did;
use crate::cgroup;
use crate::failure::{Context, SystemError, failure};
use crate::machine::{Container, Machine, State};
use crate::signal;

const DIRECTORY: &str = "/etc/mimeo/clone.d";
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn take(
    machine: &Machine,
    container: &Container,
    identity: &Identity,
    hooks: Result<Vec<String>, Failure>,
) -> Result<Did, Failure> {
    let hooks = hooks?;
    if identity.rehearsal {
        return Ok(Did::NotNeeded);
    }
    for name in &hooks {
        let args = vec![format!("{DIRECTORY}/{name}")];
        let run = program::run(machine, container, args, environment(identity), PATIENCE).await;
        run.map_err(|failed| failure(failed.kind, format!("{name}: {failed}")))?;
    }
    if !hooks.is_empty() {
        // What a hook leaves running is a part of the workload, and goes on with it.
        cgroup::take_in()?;
    }
    if let (Some(number), State::Running(_)) = (identity.signal, machine.state()) {
        // The first process of a namespace gets only what it handles: nothing ends by this.
        signal::send(&container.pidfd, number).context(format!("send signal {number}"))?;
    }
    Ok(match (hooks.is_empty(), identity.signal) {
        (true, None) => Did::NotNeeded,
        (true, Some(_)) => Did::Done,
        (false, _) => Did::Told(hooks.join(" ")),
    })
}

/// Names of the programs, in their order.
pub(super) fn list() -> Result<Vec<String>, SystemError> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SystemError::new(format!("list {DIRECTORY}"), error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context(format!("list {DIRECTORY}"))?;
        let is_program =
            |found: std::fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
        if std::fs::metadata(entry.path()).is_ok_and(is_program) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn environment(identity: &Identity) -> BTreeMap<String, String> {
    let Identity { generation, machine, hostname, .. } = identity;
    [("MIMEO_GENERATION", generation), ("MIMEO_MACHINE", machine), ("MIMEO_HOSTNAME", hostname)]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
}
