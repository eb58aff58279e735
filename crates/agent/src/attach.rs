//! `attach`: attaches a stream of the host to the container's own process.

use std::sync::Arc;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{Failure, Reply};

use crate::failure::wrong_state;
use crate::machine::{Container, Machine, State};

/// Attaches the container's streams to `stream`.
pub(crate) fn handle_stream(machine: &Machine, stream: Stream) {
    let container = match started_container(machine) {
        Ok(container) => container,
        Err(failed) => return stream.sender.message(&Reply::Failed(failed)),
    };
    match container.exit.get() {
        Some(status) => stream.sender.message(&Reply::Exited { status: *status }),
        None => {
            stream.sender.message(&Reply::Started { pid: container.inner_pid });
            container.attachment.attach(stream);
        }
    }
}

/// The container, running or ended.
fn started_container(machine: &Machine) -> Result<Arc<Container>, Failure> {
    match machine.state() {
        State::Running(container) | State::Ended(container) => Ok(container),
        State::Booted | State::Configured(_) => Err(wrong_state("the container has not been started")),
    }
}
