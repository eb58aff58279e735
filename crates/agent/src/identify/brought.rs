//! What an image brings that a copy has to deal with, found in one visit to
//! the container's files: a visit costs a thread.

use mimeo_agent_protocol::message::Failure;

use super::{hooks, ssh_keys};
use crate::inside::{Place, inside};
use crate::machine::{Container, Machine, State};

/// Each for its own line, which fails when it could not be found out.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) keys: Result<Vec<ssh_keys::Key>, Failure>,
    pub(super) hooks: Result<Vec<String>, Failure>,
}

impl Brought {
    pub(super) async fn find(machine: &Machine, container: &Container) -> Self {
        // In an ended container none of its programs can run, and none will.
        if matches!(machine.state(), State::Ended(_)) {
            return Self { keys: Ok(Vec::new()), hooks: Ok(Vec::new()) };
        }
        let look = || Ok(Self { keys: ssh_keys::list(), hooks: Ok(hooks::list()?) });
        match inside(Place::Container(container.mounts.clone()), look).await {
            Ok(brought) => brought,
            Err(failed) => Self { keys: Err(failed.clone()), hooks: Err(failed) },
        }
    }
}
