//! Programs of the container that run while it is frozen, to their end.

use std::collections::BTreeMap;
use std::time::Duration;

use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Process};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::failure;
use crate::inside::Place;
use crate::launch::{self, Launched, Within};
use crate::machine::{Container, Machine};
use crate::streams::{self, Tail};

/// Runs a program as root. It must end with success, in time.
pub(super) async fn run(
    machine: &Machine,
    container: &Container,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    patience: Duration,
) -> Result<(), Failure> {
    let process = Process { args, env, cwd: "/".to_owned(), aside: true, ..Process::default() };
    let (given, ours) = streams::make(&process)?;
    let place = Place::Container(container.mounts.clone());
    let command = launch::resolve(process, place, machine.hostname(), false).await?;
    let launched = launch::launch(&command, Within::Aside(container), given, &machine.reaper).await?;
    let tail = Tail::of(ours);
    let outcome = end(launched, patience).await;
    let said = tail.last_line().await;
    outcome.map_err(|what| {
        let message = if said.is_empty() { what } else { format!("{what}: {said}") };
        failure(FailureKind::System, message)
    })
}

async fn end(launched: Launched, patience: Duration) -> Result<(), String> {
    let Launched { pid, ended, .. } = launched;
    match tokio::time::timeout(patience, ended).await {
        Ok(Ok(ExitStatus::Code(0))) => Ok(()),
        Ok(Ok(ExitStatus::Code(code))) => Err(format!("exit code {code}")),
        Ok(Ok(ExitStatus::Signal(signal))) => Err(format!("ended by signal {signal}")),
        Ok(Ok(ExitStatus::OutOfMemory) | Err(_)) => Err("ended by the kernel".to_owned()),
        Err(_) => {
            // It leads a group of its own, and its children with it.
            if let Some(pid) = Pid::from_raw(pid) {
                kill_process_group(pid, Signal::KILL).ok();
            }
            Err(format!("not done after {} seconds", patience.as_secs()))
        }
    }
}
