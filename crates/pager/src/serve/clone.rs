//! One client, from its connection to its exit.
//!
//! A task of the server handles the handshake and waits for the exit; a thread of its own answers the faults.
//! Measured with 1 and 16 clones on two processors, mean time of a fault relative to a bare loop: tasks of
//! one runtime 1.2 and 2.0 to 2.3, whether with one thread or one per processor; a thread and a runtime for
//! each 1.2 to 1.3 and 1.2 to 1.5; a polling thread 1.1 to 1.2 and 1.1 to 1.3. A thread that wakes up for a
//! clone's fault runs on the processor where that clone ran and answers from there, delays no other clone,
//! and may wait for the disk.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::error::{HandshakeError, ServeError};
use super::figures::Figures;
use super::handshake::{Handed, Message};
use super::peer::Peer;
use super::service::Service;
use super::{Departure, End, Shared};

/// Stack size of a fault thread, of which a tenth is used.
const STACK: usize = 256 << 10;

/// Serves one client from its handshake to its exit.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: UnixStream,
    mut stopping: watch::Receiver<bool>,
) -> Departure {
    // Dropped after the peer, so its descriptor is closed only when the process is gone.
    let mut message = Message::default();
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => return shared.depart(0, End::Refused(HandshakeError::Peer(error))),
    };
    let (memory, patience) = (shared.memory.bytes(), shared.options.patience);
    let handed = tokio::select! {
        biased;
        () = told(&mut stopping) => None,
        handed = message.receive(&stream, memory, patience) => Some(handed),
    };
    let end = match handed {
        Some(Ok(handed)) => return Attended::new(peer, handed, shared).see_off(&mut stopping).await,
        Some(Err(error)) => End::Refused(error),
        None => End::Stopped,
    };
    peer.end().await;
    shared.depart(peer.pid(), end)
}

/// Waits until the server is stopped.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // A dropped sender also means that the server has stopped.
    stopping.wait_for(|told| *told).await.ok();
}

/// A clone that is being served. `peer` is the first field, so that the process is gone before its memory is
/// released.
#[derive(Debug)]
struct Clone {
    peer: Peer,
    handed: Handed,
    shared: Arc<Shared>,
}

impl Clone {
    /// Answers faults until the process has exited.
    fn answer(&self) -> (Figures, Result<(), ServeError>) {
        let mut service = Service::new(&self.shared, &self.handed, self.peer.life());
        let outcome = service.run();
        (service.close(), outcome)
    }
}

/// A clone that a task waits for; dropping it kills the process.
#[derive(Debug)]
struct Attended(Arc<Clone>);

/// The result of a fault thread.
type Answered = oneshot::Receiver<(Figures, Result<(), ServeError>)>;

impl Attended {
    fn new(peer: Peer, handed: Handed, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Clone { peer, handed, shared }))
    }

    async fn see_off(self, stopping: &mut watch::Receiver<bool>) -> Departure {
        let Clone { peer, shared, .. } = &*self.0;
        let (end, figures) = match self.begin() {
            Ok(answered) => self.attend(answered, stopping).await,
            Err(error) => (End::Failed(ServeError::Start(error)), Figures::default()),
        };
        peer.end().await;
        shared.depart_after(peer.pid(), end, figures)
    }

    fn begin(&self) -> io::Result<Answered> {
        let (tell, answered) = oneshot::channel();
        let clone = Arc::clone(&self.0);
        let name = format!("pages {}", clone.peer.pid());
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            let outcome = clone.answer();
            // Release the clone before reporting its result.
            drop(clone);
            tell.send(outcome).ok();
        })?;
        Ok(answered)
    }

    /// Waits for the thread, which ends with the process. After a stop it is not waited for if the process
    /// cannot be killed.
    async fn attend(&self, mut answered: Answered, stopping: &mut watch::Receiver<bool>) -> (End, Figures) {
        let (stopped, outcome) = tokio::select! {
            outcome = &mut answered => (false, outcome),
            () = told(stopping) => match self.0.peer.kill() {
                true => (true, answered.await),
                false => return (End::Stopped, Figures::default()),
            },
        };
        match outcome {
            Ok((figures, Ok(()))) if stopped => (End::Stopped, figures),
            Ok((figures, Ok(()))) => (End::Left, figures),
            Ok((figures, Err(error))) => (End::Failed(error), figures),
            Err(panicked) => (End::Failed(ServeError::Start(io::Error::other(panicked))), Figures::default()),
        }
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.peer.kill();
    }
}
