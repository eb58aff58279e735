//! `start`: starts the container's own process.

use std::sync::{Arc, Mutex, OnceLock};

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Process, Reply};

use crate::attachment::{Attachment, Inputs};
use crate::blocking::ContainerRoot;
use crate::console::log;
use crate::failure::{failure, wrong_state};
use crate::launch::{self, LaunchInto, Launched, Namespaces};
use crate::machine::{Configured, Container, ContainerPrivileges, Machine, State};
use crate::streams::{self, AgentEnds, Streams};
use crate::{cgroup, signal, system};

/// Starts the container and relays its streams until it ends.
pub(crate) async fn handle_stream(machine: &Arc<Machine>, process: Process, stream: Stream) {
    if machine.is_system() && !machine.has_started() {
        let _setup_guard = machine.setup_lock.lock().await;
        return system::start(machine, &process, stream).await;
    }
    match start_container(machine, process).await {
        Ok((container, launched, streams)) => {
            stream.sender.message(&Reply::Started { pid: container.inner_pid });
            container.attachment.attach(stream);
            relay_until_exit(machine, container, launched, streams).await;
        }
        Err(failed) => {
            log(&format!("cannot start the container: {failed}"));
            stream.sender.message(&Reply::Failed(failed));
        }
    }
}

type StartedContainer = (Arc<Container>, Launched, (AgentEnds, Inputs));

async fn start_container(machine: &Arc<Machine>, process: Process) -> Result<StartedContainer, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let configured = require_configured(machine)?;
    if process.aside {
        return Err(failure(FailureKind::Invalid, "`aside` is for `exec` only"));
    }
    let privileges = ContainerPrivileges { granted: process.privileges.clone(), user: process.user.clone() };
    let (process_ends, agent_ends) = streams::create(&process)?;
    let command = launch::resolve(process, ContainerRoot::Chroot, machine.hostname(), true).await?;
    let mut launched =
        launch::launch(&command, LaunchInto::NewContainer(&configured), process_ends, &machine.reaper)
            .await?;
    let Some(Namespaces { mount_ns, uts_ns }) = launched.namespaces.take() else {
        return Err(crate::blocking::lost_request());
    };
    let (attachment, inputs) = Attachment::new(machine.frozen_watch());
    let container = Arc::new(Container {
        pid: launched.pid,
        inner_pid: launched.inner_pid,
        pidfd: launched.pidfd.clone(),
        mount_ns,
        uts_ns,
        privileges,
        attachment,
        exit: OnceLock::new(),
        killed_for: Mutex::default(),
    });
    machine.set_state(State::Running(container.clone()));
    Ok((container, launched, (agent_ends, inputs)))
}

fn require_configured(machine: &Machine) -> Result<Configured, Failure> {
    match machine.state() {
        State::Configured(configured) => Ok(configured),
        State::Booted => Err(wrong_state("the machine has not been configured")),
        State::Running(_) | State::Ended(_) => Err(wrong_state("the container has been started already")),
    }
}

async fn relay_until_exit(
    machine: &Arc<Machine>,
    container: Arc<Container>,
    launched: Launched,
    (agent_ends, inputs): (AgentEnds, Inputs),
) {
    let signal_target = container.clone();
    let on_signal = move |number| {
        if let Err(failed) = signal::signal_container(&signal_target, number) {
            log(&format!("signal {number}: {failed}"));
        }
    };
    // The container keeps running when the host detaches.
    let streams = Streams::run(agent_ends, &container.attachment, inputs, on_signal, |_| {});
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    machine.set_state(State::Ended(container.clone()));
    streams.finish().await;
    let status = exit_status(status, &container);
    log(&format!("the container ended: {status:?}"));
    let status = *container.exit.get_or_init(|| status);
    container.attachment.send_reply(&Reply::Exited { status });
    container.attachment.close();
}

/// The status to report: SIGKILL may stand for another signal, or for an OOM kill.
fn exit_status(status: ExitStatus, container: &Container) -> ExitStatus {
    let killed_for = *container.killed_for();
    match (status, killed_for) {
        (ExitStatus::Signal(libc::SIGKILL), Some(signal)) => ExitStatus::Signal(signal),
        (ExitStatus::Signal(libc::SIGKILL), None) if cgroup::out_of_memory_kills() > 0 => {
            ExitStatus::OutOfMemory
        }
        _ => status,
    }
}
