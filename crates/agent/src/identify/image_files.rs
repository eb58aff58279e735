//! The image's files that an identity depends on. They are listed together,
//! because access to the container's files costs a thread.

use mimeo_agent_protocol::message::Failure;

use super::{hooks, ssh_keys};
use crate::blocking::{ContainerRoot, run_in_container};
use crate::machine::{Container, Machine, State};

/// The SSH host keys and the hooks in the container. A step fails when its list does.
#[derive(Debug)]
pub(super) struct ImageFiles {
    pub(super) keys: Result<Vec<ssh_keys::Key>, Failure>,
    pub(super) hooks: Result<Vec<String>, Failure>,
}

impl ImageFiles {
    pub(super) async fn list(machine: &Machine, container: &Container) -> Self {
        // The programs of a container that has ended cannot run.
        if matches!(machine.state(), State::Ended(_)) {
            return Self { keys: Ok(Vec::new()), hooks: Ok(Vec::new()) };
        }
        let list_both = || Ok(Self { keys: ssh_keys::list(), hooks: Ok(hooks::list()?) });
        match run_in_container(ContainerRoot::MountNamespace(container.mount_ns.clone()), list_both).await {
            Ok(image_files) => image_files,
            Err(failed) => Self { keys: Err(failed.clone()), hooks: Err(failed) },
        }
    }
}
