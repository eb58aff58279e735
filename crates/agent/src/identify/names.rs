//! Line 4: host name, the files that hold names, machine id and boot id.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Identity};
use nix::sched::{CloneFlags, setns};
use rustix::system::sethostname;

use super::record::Did;
use crate::failure::Context;
use crate::inside::blocking;
use crate::machine::{Container, Machine};
use crate::names::Names;
use crate::rootfs::managed;

pub(super) async fn take(
    machine: &Machine,
    container: &Container,
    identity: &Identity,
) -> Result<Did, Failure> {
    sethostname(identity.hostname.as_bytes()).context("set the host name")?;
    let (names, hostname) = (container.names.clone(), identity.hostname.clone());
    blocking(move || in_container(&names, &hostname)).await?;
    managed::write(&Names::from(identity))?;
    machine.set_hostname(&identity.hostname);
    Ok(Did::Done)
}

/// On a thread that stays in the container's namespace of names to its end.
fn in_container(names: &Arc<OwnedFd>, hostname: &str) -> Result<(), Failure> {
    setns(names, CloneFlags::CLONE_NEWUTS).context("enter the container's names")?;
    Ok(sethostname(hostname.as_bytes()).context("set the container's host name")?)
}
