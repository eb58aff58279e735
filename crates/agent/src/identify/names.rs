//! Step 4: sets the host name, the files that hold names, the machine id and the boot id.

use std::os::fd::OwnedFd;

use mimeo_agent_protocol::message::{Failure, Identity};
use nix::sched::{CloneFlags, setns};
use rustix::system::sethostname;

use super::step_log::StepSuccess;
use crate::failure::{Context, SystemError};
use crate::machine::{Container, Machine};
use crate::names::Names;
use crate::rootfs::managed;

pub(super) fn apply(
    machine: &Machine,
    container: &Container,
    identity: &Identity,
) -> Result<StepSuccess, Failure> {
    sethostname(identity.hostname.as_bytes()).context("set the host name")?;
    set_hostname_in_namespace(&container.uts_ns, &identity.hostname)?;
    managed::write(&Names::from(identity))?;
    machine.set_hostname(&identity.hostname);
    Ok(StepSuccess::Done)
}

/// Sets the host name in the container's UTS namespace, which this thread enters and leaves again.
fn set_hostname_in_namespace(uts_ns: &OwnedFd, hostname: &str) -> Result<(), SystemError> {
    let own = std::fs::File::open("/proc/thread-self/ns/uts").context("open the agent's UTS namespace")?;
    setns(uts_ns, CloneFlags::CLONE_NEWUTS).context("enter the container's UTS namespace")?;
    let result = sethostname(hostname.as_bytes()).context("set the container's host name");
    setns(own, CloneFlags::CLONE_NEWUTS).context("return to the agent's UTS namespace")?;
    result
}
