//! `identify`: a copy becomes a machine of its own, line by line.
//!
//! The recipe below is the list. The first line that fails is the last that is
//! tried: the workload then stays frozen, and the host is told which it was.

mod brought;
mod clock;
mod connections;
mod entropy;
mod environment;
mod generation;
mod hooks;
mod names;
mod network;
mod program;
mod record;
mod ssh_keys;

use std::sync::Arc;
use std::time::Instant;

use mimeo_agent_protocol::message::{Failure, Identity, Line, Outcome, Reply};

use crate::failure::wrong_state;
use crate::machine::{Became, Container, Machine, State};
use crate::thaw;
use brought::Brought;
pub(crate) use entropy::stir;
use record::{Did, Record, Stopped};

/// Makes the machine another. May be asked again for as long as the workload stands.
pub(crate) async fn act(machine: &Arc<Machine>, identity: Identity) -> Result<Reply, Failure> {
    let received = Instant::now();
    let _building = machine.building.lock().await;
    let rest = match subject(machine)? {
        Some(container) => Copy { machine, container, identity: &identity, received },
        None => return Ok(before_configure(&identity)),
    };
    let mut record = Record::default();
    let rest = match rest.lines(&mut record).await {
        Ok(()) => Outcome::NotNeeded,
        Err(Stopped) => Outcome::NotTried,
    };
    Ok(Reply::Identified { lines: record.complete(rest) })
}

/// Whose identity is to change; nobody's before there is a container.
fn subject(machine: &Machine) -> Result<Option<Arc<Container>>, Failure> {
    match machine.state() {
        State::Booted => Ok(None),
        State::Configured(_) => Err(wrong_state("the container has not been started")),
        State::Running(_) if !machine.is_frozen() => Err(wrong_state("the workload is not frozen")),
        State::Running(container) | State::Ended(container) => Ok(Some(container)),
    }
}

/// What a copy needs that has no name yet. `configure` does the rest.
fn before_configure(identity: &Identity) -> Reply {
    let mut record = Record::default();
    let rest = match kernel_lines(identity, &mut record) {
        Ok(()) => Outcome::NotNeeded,
        Err(Stopped) => Outcome::NotTried,
    };
    Reply::Identified { lines: record.complete(rest) }
}

fn kernel_lines(identity: &Identity, record: &mut Record) -> Result<(), Stopped> {
    record.note(Line::Entropy, entropy::take(identity))?;
    record.note(Line::Generation, generation::take(identity))?;
    record.note(Line::Clock, clock::take(identity))
}

/// A copy on its way to an identity.
#[derive(Debug)]
struct Copy<'a> {
    machine: &'a Arc<Machine>,
    container: Arc<Container>,
    identity: &'a Identity,
    received: Instant,
}

impl Copy<'_> {
    async fn lines(&self, record: &mut Record) -> Result<(), Stopped> {
        let Self { machine, container, identity, .. } = self;
        kernel_lines(identity, record)?;
        let hooks = match self.already() {
            Some(became) => {
                for line in [Line::Names, Line::Network, Line::Connections, Line::SshKeys] {
                    record.note(line, Ok(Did::Told("made before".to_owned())))?;
                }
                Ok(became.hooks)
            }
            None => self.own_lines(record).await?,
        };
        record.note(Line::Environment, environment::take(identity))?;
        record.note(Line::Hooks, hooks::take(machine, container, identity, hooks.clone()).await)?;
        if let (Ok(hooks), false) = (hooks, identity.rehearsal) {
            machine.became().replace(Became { identity: (*identity).clone(), hooks });
        }
        record.note(Line::Thaw, self.thaw())
    }

    /// A copy from a pool is asked twice, and stands still in between: it has its
    /// names, its address and its keys, and nobody has connected since.
    fn already(&self) -> Option<Became> {
        let Identity { unix_nanos, entropy, env, signal, thaw, .. } = self.identity.clone();
        let became = self.machine.became().clone()?;
        let same = Identity { unix_nanos, entropy, env, signal, thaw, ..became.identity.clone() };
        (same == *self.identity).then_some(became)
    }

    /// The lines between the kernel's and what this copy alone is told; the
    /// image's programs that are told of it.
    async fn own_lines(&self, record: &mut Record) -> Result<Result<Vec<String>, Failure>, Stopped> {
        let Self { machine, container, identity, .. } = self;
        record.note(Line::Names, names::take(machine, container, identity))?;
        record.note(Line::Network, network::take(identity))?;
        record.note(Line::Connections, connections::take(machine))?;
        let brought = Brought::find(machine, container).await;
        record.note(Line::SshKeys, ssh_keys::take(machine, container, identity, brought.keys).await)?;
        Ok(brought.hooks)
    }

    fn thaw(&self) -> Result<Did, Failure> {
        if !self.identity.thaw {
            return Ok(Did::NotNeeded);
        }
        // Once more: hooks may have taken their time.
        clock::correct(self.identity, self.received.elapsed())?;
        thaw::workload(self.machine).map(|()| Did::Done)
    }
}
