//! `volume`: a directory of the host, served through the link.

use std::sync::Arc;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{FailureKind, Reply, Volume};

use crate::failure::failure;
use crate::machine::Machine;

pub(crate) async fn serve(_machine: &Arc<Machine>, _volume: Volume, stream: Stream) {
    stream.sender.message(&Reply::Failed(failure(FailureKind::Invalid, "this agent mounts no volumes")));
}
