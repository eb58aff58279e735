//! `cp`, `diff`, `export` and `commit`: the files of a machine, whether it runs or not.

use std::time::Duration;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{Reply, Request};
use tokio::time::sleep;

use super::end::{self, Wait};
use super::{ActError, start};
use crate::Engine;
use crate::control::{ControlClient, ControlError};
use crate::create::{self, DiskGuest, StageError, StartError};
use crate::machine::{Action, ClaimError, Found, decide};

/// Access to a machine's files. Call [`Files::close`] at the end: what was written may be lost without it.
#[derive(Debug)]
pub struct Files {
    machine: Found,
    access: Access,
}

#[derive(Debug)]
enum Access {
    /// The guest of a running machine, through its supervisor.
    Supervisor(ControlClient),
    /// A guest of our own, with the disk of a machine that does not run.
    Own(Box<DiskGuest>),
}

/// How long a command waits for another one that uses the same machine's files.
pub const TIMEOUT: Duration = end::FILES_TIMEOUT;
/// The same for a command that reads a pipe or writes to one: the other command may be at its other end.
pub const PIPE_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens the files of the machine. Call it on a thread that lives as long as the result: it may be the parent of a VMM.
/// `timeout` limits the wait for another command that uses them. A command that opens several machines does so in the
/// order of their ids, so that no two wait for each other.
///
/// # Errors
/// If the machine's state does not allow it, or no guest can be started for its disk.
pub async fn open(engine: &Engine, machine: &Found, timeout: Duration) -> Result<Files, ActError> {
    let mut wait = Wait::new(end::FINISH_TIMEOUT, timeout);
    let was_live = machine.record.phase().is_live();
    let mut machine = machine.clone();
    loop {
        machine = end::settle_within(engine, &machine, &mut wait).await?;
        if !was_live {
            // Another command that waited, too, may have started it.
            machine = start::wait_until_started(engine, &machine).await?;
        }
        if machine.record.phase().is_live() {
            return open_live(engine, machine).await;
        }
        match create::open_files(engine, &machine.record.id).await {
            Ok(guest) => return Ok(Files { machine, access: Access::Own(Box::new(guest)) }),
            // Another command was faster.
            Err(StartError { source: StageError::Claim(ClaimError::Supervised { .. }), .. }) => {}
            Err(error) => {
                let (name, source) = (machine.record.name, Box::new(error));
                return Err(ActError::OpenFiles { name, source });
            }
        }
        if wait.is_over(engine, &machine)? {
            return Err(end::not_ended(&machine, end::FINISH_TIMEOUT));
        }
        sleep(end::POLL_INTERVAL).await;
        machine = end::read(engine, &machine)?;
    }
}

async fn open_live(engine: &Engine, machine: Found) -> Result<Files, ActError> {
    let refused = |refusal| ActError::Refused { name: machine.record.name.clone(), refusal };
    decide(machine.record.phase(), Action::Enter).map_err(refused)?;
    let client = ControlClient::connect(engine.home(), &machine).await?;
    Ok(Files { machine, access: Access::Supervisor(client) })
}

impl Files {
    /// The files of a guest that was started for them.
    pub(super) fn of_guest(engine: &Engine, guest: DiskGuest) -> Self {
        let dir = engine.home().machine(&guest.record.id);
        let machine = Found { record: guest.record.clone(), dir, supervised: true };
        Self { machine, access: Access::Own(Box::new(guest)) }
    }

    /// Returns the machine.
    #[must_use]
    pub fn machine(&self) -> &Found {
        &self.machine
    }

    /// Opens a stream to the guest and reads the guest's first reply.
    ///
    /// # Errors
    /// If the guest refuses the request.
    pub async fn guest(&self, request: Request) -> Result<(Reply, Stream), ControlError> {
        let name = || self.machine.record.name.clone();
        if let Access::Supervisor(client) = &self.access {
            return client.guest(request).await;
        }
        let mut stream = self.stream(request)?;
        match stream.receiver.message::<Reply>().await {
            Ok(Reply::Failed(failure)) => Err(ControlError::Guest { name: name(), failure }),
            Ok(reply) => Ok((reply, stream)),
            Err(source) => Err(ControlError::Link { name: name(), source }),
        }
    }

    /// Opens a stream to the guest on which the guest replies only at the end.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn stream(&self, request: Request) -> Result<Stream, ControlError> {
        match &self.access {
            Access::Supervisor(client) => client.stream(request),
            Access::Own(guest) => guest
                .link
                .open(&request)
                .map_err(|source| ControlError::Link { name: self.machine.record.name.clone(), source }),
        }
    }

    /// Ends the access. What was written is on the machine's disk afterwards.
    ///
    /// # Errors
    /// If the guest of a machine that does not run could not flush its disk.
    pub async fn close(self) -> Result<(), ActError> {
        let Access::Own(guest) = self.access else { return Ok(()) };
        let name = self.machine.record.name;
        guest.close().await.map_err(|reason| ActError::NotFlushed { name, reason })
    }
}
