//! One clone: from its first word to its end.
//!
//! It is listened to, and seen off, in a task of the server's; its faults are answered by a thread of its own. Measured with
//! one and with 16 clones on two processors, the mean time of a fault in times of a bare loop's: tasks of one runtime 1.2
//! and 2.0 to 2.3, whether of one thread or of as many as there are processors; a thread and a runtime for each
//! 1.2 to 1.3 and 1.2 to 1.5; a thread that polls 1.1 to 1.2 and 1.1 to 1.3. A thread that wakes up for one clone's fault runs where
//! that clone ran and answers from there, no other clone waits for it meanwhile, and it may wait for the disk.

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

/// Of a thread that answers: a tenth of it is used.
const STACK: usize = 256 << 10;

/// Takes in who has connected, and sees it to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: UnixStream,
    mut stopping: watch::Receiver<bool>,
) -> Departure {
    // Dropped after the peer, and so closed when there is nobody any more.
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

/// Until the server is told to end.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // A server that is gone is over, too.
    stopping.wait_for(|told| *told).await.ok();
}

/// A clone that is served. Its process comes first: it is gone when its memory is let go of.
#[derive(Debug)]
struct Clone {
    peer: Peer,
    handed: Handed,
    shared: Arc<Shared>,
}

impl Clone {
    /// Answers faults until the process has ended.
    fn answer(&self) -> (Figures, Result<(), ServeError>) {
        let mut service = Service::new(&self.shared, &self.handed, self.peer.life());
        let outcome = service.run();
        (service.close(), outcome)
    }
}

/// A clone that somebody waits for; its process is ended where they do no more.
#[derive(Debug)]
struct Attended(Arc<Clone>);

/// What comes of a thread's work.
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
            // What is told of is let go of before.
            drop(clone);
            tell.send(outcome).ok();
        })?;
        Ok(answered)
    }

    /// Waits for the thread. It ends with the process, unless that is not ours to end.
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
