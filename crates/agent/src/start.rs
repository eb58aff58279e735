//! `start`: the container's own process.

use std::sync::{Arc, Mutex};

use mimeo_agent_protocol::link::{Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Failure, Process, Reply};

use crate::console::log;
use crate::failure::{Context, wrong_state};
use crate::inside::Place;
use crate::launch::{self, Launched, Within};
use crate::machine::{Configured, Container, Machine, State};
use crate::streams::{self, Ours, Streams};
use crate::{cgroup, signal};

/// Starts the container and stays with it to its end.
pub(crate) async fn serve(machine: &Arc<Machine>, process: Process, stream: Stream) {
    let Stream { receiver, sender } = stream;
    match start(machine, process).await {
        Ok((container, launched, ours)) => {
            sender.message(&Reply::Started { pid: launched.inner_pid });
            attend(machine, container, launched, ours, sender, receiver).await;
        }
        Err(failed) => {
            log(&format!("the container did not start: {failed}"));
            sender.message(&Reply::Failed(failed));
        }
    }
}

async fn start(
    machine: &Arc<Machine>,
    process: Process,
) -> Result<(Arc<Container>, Launched, Ours), Failure> {
    let _building = machine.building.lock().await;
    let configured = configured(machine)?;
    let (given, ours) = streams::make(&process)?;
    let command = launch::resolve(process, Place::Root, configured.hostname.clone(), true).await?;
    let launched = launch::launch(&command, Within::New(&configured), given, &machine.reaper).await?;
    let mounts = std::fs::File::open(format!("/proc/{}/ns/mnt", launched.pid))
        .context("open the container's mount namespace")?;
    let container = Arc::new(Container {
        machine: configured,
        pid: launched.pid,
        pidfd: launched.pidfd.clone(),
        mounts: Arc::new(mounts.into()),
        killed_for: Mutex::default(),
    });
    machine.enter(State::Running(container.clone()));
    Ok((container, launched, ours))
}

fn configured(machine: &Machine) -> Result<Configured, Failure> {
    match machine.state() {
        State::Configured(configured) => Ok(configured),
        State::Booted => Err(wrong_state("the machine has not been configured")),
        State::Running(_) | State::Ended(_) => Err(wrong_state("the container has been started already")),
    }
}

async fn attend(
    machine: &Arc<Machine>,
    container: Arc<Container>,
    launched: Launched,
    ours: Ours,
    sender: Sender,
    receiver: Receiver,
) {
    let sender = Arc::new(sender);
    let signalled = container.clone();
    let on_signal = move |number| {
        if let Err(failed) = signal::container(&signalled, number) {
            log(&format!("signal {number}: {failed}"));
        }
    };
    // The container outlives the host's interest in its output.
    let streams = Streams::run(ours, &sender, receiver, on_signal, |_| {});
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    machine.enter(State::Ended(container.clone()));
    streams.finish().await;
    let status = explain(status, &container);
    log(&format!("the container ended: {status:?}"));
    sender.message(&Reply::Exited { status });
}

/// SIGKILL may have come in the name of another signal, or of the kernel's need for memory.
fn explain(status: ExitStatus, container: &Container) -> ExitStatus {
    let killed_for = *container.killed_for();
    match (status, killed_for) {
        (ExitStatus::Signal(libc::SIGKILL), Some(signal)) => ExitStatus::Signal(signal),
        (ExitStatus::Signal(libc::SIGKILL), None) if cgroup::out_of_memory_kills() > 0 => {
            ExitStatus::OutOfMemory
        }
        _ => status,
    }
}
