//! `start`: the container's own process.

use std::sync::{Arc, Mutex, OnceLock};

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Process, Reply};

use crate::console::log;
use crate::failure::{failure, wrong_state};
use crate::inside::Place;
use crate::launch::{self, Launched, Namespaces, Within};
use crate::machine::{Configured, Container, Machine, State};
use crate::outlet::{Inlets, Outlet};
use crate::streams::{self, Ours, Streams};
use crate::{cgroup, signal};

/// Starts the container and stays with it to its end.
pub(crate) async fn serve(machine: &Arc<Machine>, process: Process, stream: Stream) {
    match start(machine, process).await {
        Ok((container, launched, streams)) => {
            stream.sender.message(&Reply::Started { pid: container.inner_pid });
            container.outlet.attach(stream);
            attend(machine, container, launched, streams).await;
        }
        Err(failed) => {
            log(&format!("the container did not start: {failed}"));
            stream.sender.message(&Reply::Failed(failed));
        }
    }
}

type Started = (Arc<Container>, Launched, (Ours, Inlets));

async fn start(machine: &Arc<Machine>, process: Process) -> Result<Started, Failure> {
    let _building = machine.building.lock().await;
    let configured = configured(machine)?;
    if process.aside {
        return Err(failure(FailureKind::Invalid, "the container cannot run beside itself"));
    }
    let (given, ours) = streams::make(&process)?;
    let command = launch::resolve(process, Place::Root, machine.hostname(), true).await?;
    let mut launched = launch::launch(&command, Within::New(&configured), given, &machine.reaper).await?;
    let Some(Namespaces { mounts, names }) = launched.namespaces.take() else {
        return Err(crate::inside::lost());
    };
    let (outlet, inlets) = Outlet::new(machine.frozen());
    let container = Arc::new(Container {
        pid: launched.pid,
        inner_pid: launched.inner_pid,
        pidfd: launched.pidfd.clone(),
        mounts,
        names,
        outlet,
        exit: OnceLock::new(),
        killed_for: Mutex::default(),
    });
    machine.enter(State::Running(container.clone()));
    Ok((container, launched, (ours, inlets)))
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
    (ours, inlets): (Ours, Inlets),
) {
    let signalled = container.clone();
    let on_signal = move |number| {
        if let Err(failed) = signal::container(&signalled, number) {
            log(&format!("signal {number}: {failed}"));
        }
    };
    // The container outlives the host's interest in its output.
    let streams = Streams::run(ours, &container.outlet, inlets, on_signal, |_| {});
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    machine.enter(State::Ended(container.clone()));
    streams.finish().await;
    let status = explain(status, &container);
    log(&format!("the container ended: {status:?}"));
    let status = *container.exit.get_or_init(|| status);
    container.outlet.tell(&Reply::Exited { status });
    container.outlet.close();
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
