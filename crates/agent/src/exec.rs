//! `exec`: one more process in the container.

use std::sync::Arc;

use mimeo_agent_protocol::link::{Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Failure, Process, Reply};

use crate::inside::Place;
use crate::launch::{self, Launched, Within};
use crate::machine::Machine;
use crate::streams::{self, Ours, Streams};
use crate::{cgroup, signal};

/// Runs a process and stays with it to its end.
pub(crate) async fn serve(machine: &Arc<Machine>, process: Process, stream: Stream) {
    let Stream { receiver, sender } = stream;
    let kills = cgroup::out_of_memory_kills();
    match run(machine, process).await {
        Ok((launched, ours)) => {
            sender.message(&Reply::Started { pid: launched.inner_pid });
            attend(launched, ours, sender, receiver, kills).await;
        }
        Err(failed) => sender.message(&Reply::Failed(failed)),
    }
}

async fn run(machine: &Arc<Machine>, process: Process) -> Result<(Launched, Ours), Failure> {
    // A start that came before must be done.
    drop(machine.building.lock().await);
    let container = machine.container()?;
    let (given, ours) = streams::make(&process)?;
    let place = Place::Container(container.mounts.clone());
    let hostname = container.machine.hostname.clone();
    let command = launch::resolve(process, place, hostname, false).await?;
    let launched = launch::launch(&command, Within::Container(&container), given, &machine.reaper).await;
    match launched {
        Ok(launched) => Ok((launched, ours)),
        // It may have ended meanwhile, which fails in many ways.
        Err(failed) => Err(machine.container().err().unwrap_or(failed)),
    }
}

async fn attend(launched: Launched, ours: Ours, sender: Sender, receiver: Receiver, kills: u64) {
    let sender = Arc::new(sender);
    let (signalled, abandoned) = (launched.pidfd.clone(), launched.pidfd.clone());
    // A process that has just ended needs no signal.
    let on_signal = move |number| drop(signal::send(&signalled, number));
    // As a terminal's closing does; without one, podman leaves the process be.
    let given_up = move |terminal| {
        if terminal {
            drop(signal::send(&abandoned, libc::SIGHUP));
        }
    };
    let streams = Streams::run(ours, &sender, receiver, on_signal, given_up);
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    streams.finish().await;
    let status = match status {
        ExitStatus::Signal(libc::SIGKILL) if cgroup::out_of_memory_kills() > kills => ExitStatus::OutOfMemory,
        _ => status,
    };
    sender.message(&Reply::Exited { status });
}
