//! `exec`: runs an additional process in the container.

use std::sync::Arc;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{ExitStatus, Failure, Process, Reply};

use crate::attachment::Attachment;
use crate::blocking::ContainerRoot;
use crate::launch::{self, LaunchInto, Launched};
use crate::machine::Machine;
use crate::streams::{self, AgentEnds, Streams};
use crate::{cgroup, signal};

/// Runs a process and relays its streams until it ends.
pub(crate) async fn handle_stream(machine: &Arc<Machine>, process: Process, stream: Stream) {
    if !process.aside {
        machine.wait_until_thawed().await;
        // The request belongs to the source of a snapshot: a clone must not run it too.
        if stream.sender.session_over() {
            return;
        }
    }
    // An earlier start or freeze must be done first.
    drop(machine.setup_lock.lock().await);
    if stream.sender.session_over() {
        return;
    }
    let earlier_oom_kills = cgroup::out_of_memory_kills();
    match start_process(machine, process).await {
        Ok((launched, agent_ends)) => {
            stream.sender.message(&Reply::Started { pid: launched.inner_pid });
            relay_until_exit(launched, agent_ends, stream, earlier_oom_kills).await;
        }
        Err(failed) => stream.sender.message(&Reply::Failed(failed)),
    }
}

async fn start_process(
    machine: &Arc<Machine>,
    mut process: Process,
) -> Result<(Launched, AgentEnds), Failure> {
    let container = machine.container()?;
    process.privileges = container.privileges.for_process(&process);
    let (process_ends, agent_ends) = streams::create(&process)?;
    let root = ContainerRoot::MountNamespace(container.mount_ns.clone());
    let aside = process.aside;
    let command = launch::resolve(process, root, machine.hostname(), false).await?;
    let within = if aside { LaunchInto::Aside(&container) } else { LaunchInto::Container(&container) };
    let launched = launch::launch(&command, within, process_ends, &machine.reaper).await;
    match launched {
        Ok(launched) => Ok((launched, agent_ends)),
        // If the container ended meanwhile, report that instead: a launch then fails in many ways.
        Err(failed) => Err(machine.container().err().unwrap_or(failed)),
    }
}

async fn relay_until_exit(launched: Launched, agent_ends: AgentEnds, stream: Stream, earlier_oom_kills: u64) {
    // Only this stream is ever attached to an exec'd process.
    let (attachment, inputs) = Attachment::new(Arc::default());
    attachment.attach(stream);
    let (signal_target, hang_up_target) = (launched.pidfd.clone(), launched.pidfd.clone());
    // Fails when the process has just ended, and then no signal is needed.
    let on_signal = move |number| drop(signal::send(&signal_target, number));
    // Closing a terminal sends SIGHUP. Without a terminal the process keeps running, as with podman.
    let on_host_gone = move |terminal| {
        if terminal {
            drop(signal::send(&hang_up_target, libc::SIGHUP));
        }
    };
    let streams = Streams::run(agent_ends, &attachment, inputs, on_signal, on_host_gone);
    let status = launched.ended.await.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
    streams.finish().await;
    let status = match status {
        ExitStatus::Signal(libc::SIGKILL) if cgroup::out_of_memory_kills() > earlier_oom_kills => {
            ExitStatus::OutOfMemory
        }
        _ => status,
    };
    attachment.send_reply(&Reply::Exited { status });
}
