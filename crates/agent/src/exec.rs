//! `exec`: one more process in the container.

use std::sync::Arc;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{ExitStatus, Failure, Process, Reply};

use crate::inside::Place;
use crate::launch::{self, Launched, Within};
use crate::machine::Machine;
use crate::outlet::Outlet;
use crate::streams::{self, Ours, Streams};
use crate::{cgroup, signal};

/// Runs a process and stays with it to its end.
pub(crate) async fn serve(machine: &Arc<Machine>, process: Process, stream: Stream) {
    if !process.aside {
        machine.thawed().await;
        // Asked for before a snapshot, it is not a copy's to run.
        if stream.sender.session_over() {
            return;
        }
    }
    // A start, or a freeze, that came before must be done.
    drop(machine.building.lock().await);
    if stream.sender.session_over() {
        return;
    }
    let kills = cgroup::out_of_memory_kills();
    match run(machine, process).await {
        Ok((launched, ours)) => {
            stream.sender.message(&Reply::Started { pid: launched.inner_pid });
            attend(launched, ours, stream, kills).await;
        }
        Err(failed) => stream.sender.message(&Reply::Failed(failed)),
    }
}

async fn run(machine: &Arc<Machine>, process: Process) -> Result<(Launched, Ours), Failure> {
    let container = machine.container()?;
    let (given, ours) = streams::make(&process)?;
    let place = Place::Container(container.mounts.clone());
    let aside = process.aside;
    let command = launch::resolve(process, place, machine.hostname(), false).await?;
    let within = if aside { Within::Aside(&container) } else { Within::Container(&container) };
    let launched = launch::launch(&command, within, given, &machine.reaper).await;
    match launched {
        Ok(launched) => Ok((launched, ours)),
        // It may have ended meanwhile, which fails in many ways.
        Err(failed) => Err(machine.container().err().unwrap_or(failed)),
    }
}

async fn attend(launched: Launched, ours: Ours, stream: Stream, kills: u64) {
    // Who starts it stays with it: nobody else is ever attached, or waited for.
    let (outlet, inlets) = Outlet::new(Arc::default());
    outlet.attach(stream);
    let (signalled, abandoned) = (launched.pidfd.clone(), launched.pidfd.clone());
    // A process that has just ended needs no signal.
    let on_signal = move |number| drop(signal::send(&signalled, number));
    // As a terminal's closing does; without one, podman leaves the process be.
    let given_up = move |terminal| {
        if terminal {
            drop(signal::send(&abandoned, libc::SIGHUP));
        }
    };
    let streams = Streams::run(ours, &outlet, inlets, on_signal, given_up);
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    streams.finish().await;
    let status = match status {
        ExitStatus::Signal(libc::SIGKILL) if cgroup::out_of_memory_kills() > kills => ExitStatus::OutOfMemory,
        _ => status,
    };
    outlet.tell(&Reply::Exited { status });
}
