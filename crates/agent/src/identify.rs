//! `identify`: a copy becomes a machine of its own, line by line.
//!
//! The recipe below is the list. The first line that fails is the last that is
//! tried: the workload then stays frozen, and the host is told which it was.

mod clock;
mod connections;
mod entropy;
mod environment;
mod hooks;
mod image_files;
mod names;
mod network;
mod program;
mod ssh_keys;
mod step_log;
mod vm_generation;

use std::sync::Arc;
use std::time::Instant;

use mimeo_agent_protocol::message::{Failure, Identity, Line, Outcome, Reply};

use crate::failure::wrong_state;
use crate::machine::{AppliedIdentity, Container, Machine, State};
use crate::thaw;
pub(crate) use entropy::reseed;
use image_files::ImageFiles;
use step_log::{StepFailed, StepLog, StepSuccess};

/// Makes the machine another. May be asked again for as long as the workload stands.
pub(crate) async fn handle(machine: &Arc<Machine>, identity: Identity) -> Result<Reply, Failure> {
    let received = Instant::now();
    let _setup_guard = machine.setup_lock.lock().await;
    let change = match target_container(machine)? {
        Some(container) => IdentityChange { machine, container, identity: &identity, received },
        None => return Ok(before_configure(&identity)),
    };
    let mut log = StepLog::default();
    let remaining = match change.apply_steps(&mut log).await {
        Ok(()) => Outcome::NotNeeded,
        Err(StepFailed) => Outcome::NotTried,
    };
    Ok(Reply::Identified { lines: log.complete(remaining) })
}

/// Whose identity is to change; nobody's before there is a container.
fn target_container(machine: &Machine) -> Result<Option<Arc<Container>>, Failure> {
    match machine.state() {
        State::Booted => Ok(None),
        State::Configured(_) => Err(wrong_state("the container has not been started")),
        State::Running(_) if !machine.is_frozen() => Err(wrong_state("the workload is not frozen")),
        State::Running(container) | State::Ended(container) => Ok(Some(container)),
    }
}

/// What a copy needs that has no name yet. `configure` does the rest.
fn before_configure(identity: &Identity) -> Reply {
    let mut log = StepLog::default();
    let remaining = match apply_kernel_steps(identity, &mut log) {
        Ok(()) => Outcome::NotNeeded,
        Err(StepFailed) => Outcome::NotTried,
    };
    Reply::Identified { lines: log.complete(remaining) }
}

fn apply_kernel_steps(identity: &Identity, log: &mut StepLog) -> Result<(), StepFailed> {
    log.record(Line::Entropy, entropy::apply(identity))?;
    log.record(Line::Generation, vm_generation::apply(identity))?;
    log.record(Line::Clock, clock::apply(identity))
}

/// A copy on its way to an identity.
#[derive(Debug)]
struct IdentityChange<'a> {
    machine: &'a Arc<Machine>,
    container: Arc<Container>,
    identity: &'a Identity,
    received: Instant,
}

impl IdentityChange<'_> {
    async fn apply_steps(&self, log: &mut StepLog) -> Result<(), StepFailed> {
        let Self { machine, container, identity, .. } = self;
        apply_kernel_steps(identity, log)?;
        let hooks = match self.previously_applied() {
            Some(applied) => {
                for line in [Line::Names, Line::Network, Line::Connections, Line::SshKeys] {
                    log.record(line, Ok(StepSuccess::DoneWith("made before".to_owned())))?;
                }
                Ok(applied.hooks)
            }
            None => self.apply_machine_steps(log).await?,
        };
        log.record(Line::Environment, environment::apply(identity))?;
        log.record(Line::Hooks, hooks::apply(machine, container, identity, hooks.clone()).await)?;
        if let (Ok(hooks), false) = (hooks, identity.rehearsal) {
            machine.applied_identity().replace(AppliedIdentity { identity: (*identity).clone(), hooks });
        }
        log.record(Line::Thaw, self.thaw())
    }

    /// A copy from a pool is asked twice, and stands still in between: it has its
    /// names, its address and its keys, and nobody has connected since.
    fn previously_applied(&self) -> Option<AppliedIdentity> {
        let Identity { unix_nanos, entropy, env, signal, thaw, .. } = self.identity.clone();
        let applied = self.machine.applied_identity().clone()?;
        let expected = Identity { unix_nanos, entropy, env, signal, thaw, ..applied.identity.clone() };
        (expected == *self.identity).then_some(applied)
    }

    /// The lines between the kernel's and what this copy alone is told; the
    /// image's programs that are told of it.
    async fn apply_machine_steps(
        &self,
        log: &mut StepLog,
    ) -> Result<Result<Vec<String>, Failure>, StepFailed> {
        let Self { machine, container, identity, .. } = self;
        log.record(Line::Names, names::apply(machine, container, identity))?;
        log.record(Line::Network, network::apply(identity))?;
        log.record(Line::Connections, connections::apply(machine))?;
        let image_files = ImageFiles::list(machine, container).await;
        log.record(Line::SshKeys, ssh_keys::apply(machine, container, identity, image_files.keys).await)?;
        Ok(image_files.hooks)
    }

    fn thaw(&self) -> Result<StepSuccess, Failure> {
        if !self.identity.thaw {
            return Ok(StepSuccess::NotNeeded);
        }
        // Once more: hooks may have taken their time.
        clock::set_again(self.identity, self.received.elapsed())?;
        thaw::thaw_workload(self.machine).map(|()| StepSuccess::Done)
    }
}
