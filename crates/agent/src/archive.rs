//! Files of the container, as tar streams.

use std::sync::Arc;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{FailureKind, Reply};

use crate::failure::failure;
use crate::machine::Machine;

pub(crate) async fn read(_machine: &Arc<Machine>, _path: String, _follow: bool, stream: Stream) {
    stream.sender.message(&Reply::Failed(failure(FailureKind::Invalid, "this agent reads no archives")));
}

pub(crate) async fn write(_machine: &Arc<Machine>, _directory: String, stream: Stream) {
    stream.sender.message(&Reply::Failed(failure(FailureKind::Invalid, "this agent writes no archives")));
}
