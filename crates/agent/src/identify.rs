//! `identify`: applies a clone's identity, step by step.
//!
//! The functions below list the steps in order. After a step that fails no
//! further step is tried, the workload stays frozen, and the reply names the step.

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
mod system_names;
mod vm_generation;

use std::sync::Arc;
use std::time::Instant;

use mimeo_agent_protocol::message::{Failure, Identity, Reply, Step, StepOutcome};

use crate::failure::wrong_state;
use crate::machine::{AppliedIdentity, Container, Machine, State};
use crate::thaw;
pub(crate) use entropy::reseed;
use image_files::ImageFiles;
use step_log::{StepFailed, StepLog, StepSuccess};

/// Applies an identity. The host may repeat this while the workload is frozen.
pub(crate) async fn handle(machine: &Arc<Machine>, identity: Identity) -> Result<Reply, Failure> {
    let received = Instant::now();
    let _setup_guard = machine.setup_lock.lock().await;
    let change = match target_container(machine)? {
        Some(container) => IdentityChange { machine, container, identity: &identity, received },
        None => return Ok(before_configure(&identity)),
    };
    let mut log = StepLog::default();
    let remaining = match change.apply_steps(&mut log).await {
        Ok(()) => StepOutcome::NotNeeded,
        Err(StepFailed) => StepOutcome::NotTried,
    };
    Ok(Reply::Identified { steps: log.complete(remaining) })
}

/// The container whose identity changes; `None` before the machine is configured.
fn target_container(machine: &Machine) -> Result<Option<Arc<Container>>, Failure> {
    match machine.state() {
        State::Booted => Ok(None),
        State::Configured(_) => Err(wrong_state("the container has not been started")),
        State::Running(_) if !machine.is_frozen() => Err(wrong_state("the workload is not frozen")),
        State::Running(container) | State::Ended(container) => Ok(Some(container)),
    }
}

/// Applies the steps that a clone of an unconfigured guest needs. `configure` does the rest.
fn before_configure(identity: &Identity) -> Reply {
    let mut log = StepLog::default();
    let remaining = match apply_kernel_steps(identity, &mut log) {
        Ok(()) => StepOutcome::NotNeeded,
        Err(StepFailed) => StepOutcome::NotTried,
    };
    Reply::Identified { steps: log.complete(remaining) }
}

fn apply_kernel_steps(identity: &Identity, log: &mut StepLog) -> Result<(), StepFailed> {
    log.record(Step::Entropy, entropy::apply(identity))?;
    log.record(Step::VmGeneration, vm_generation::apply(identity))?;
    log.record(Step::Clock, clock::apply(identity))
}

/// A request to apply an identity to a clone.
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
                for step in [Step::Names, Step::Network, Step::Connections, Step::SshKeys] {
                    log.record(step, Ok(StepSuccess::DoneWith("already applied".to_owned())))?;
                }
                Ok(applied.hooks)
            }
            None => self.apply_machine_steps(log).await?,
        };
        log.record(Step::Environment, environment::apply(identity))?;
        log.record(Step::Hooks, hooks::apply(machine, container, identity, hooks.clone()).await)?;
        if let (Ok(hooks), false) = (hooks, identity.warm_up) {
            machine.applied_identity().replace(AppliedIdentity { identity: (*identity).clone(), hooks });
        }
        log.record(Step::Thaw, self.thaw())
    }

    /// The identity that was applied before, if the request repeats it. A clone in a
    /// pool gets its identity when it enters the pool and again when it is taken from
    /// it. Its workload is frozen in between, so that its names, its address and its
    /// keys are unchanged and it has no new connections.
    fn previously_applied(&self) -> Option<AppliedIdentity> {
        let Identity { unix_nanos, entropy, env, signal, thaw, .. } = self.identity.clone();
        let applied = self.machine.applied_identity().clone()?;
        let expected = Identity { unix_nanos, entropy, env, signal, thaw, ..applied.identity.clone() };
        (expected == *self.identity).then_some(applied)
    }

    /// Applies the steps from names to SSH keys, and returns the hooks that the
    /// image provides.
    async fn apply_machine_steps(
        &self,
        log: &mut StepLog,
    ) -> Result<Result<Vec<String>, Failure>, StepFailed> {
        let Self { machine, container, identity, .. } = self;
        let named = match container.is_system() {
            true => system_names::apply(machine, container, identity).await,
            false => names::apply(machine, container, identity),
        };
        log.record(Step::Names, named)?;
        log.record(Step::Network, network::apply(identity))?;
        log.record(Step::Connections, connections::apply(machine))?;
        let image_files = ImageFiles::list(machine, container).await;
        log.record(Step::SshKeys, ssh_keys::apply(machine, container, identity, image_files.keys).await)?;
        Ok(image_files.hooks)
    }

    fn thaw(&self) -> Result<StepSuccess, Failure> {
        if !self.identity.thaw {
            return Ok(StepSuccess::NotNeeded);
        }
        // Set the clock again: the hooks may have taken long.
        clock::set_again(self.identity, self.received.elapsed())?;
        thaw::thaw_workload(self.machine).map(|()| StepSuccess::Done)
    }
}
