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

use super::counters::Counters;
use super::error::{HandshakeError, ServeError};
use super::handshake::{Handshake, Message};
use super::peer::Peer;
use super::service::Service;
use super::{ClientExit, ExitReason, Shared};

/// Stack size of a fault thread, of which a tenth is used.
const STACK_BYTES: usize = 256 << 10;

/// Serves one client from its handshake to its exit.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: UnixStream,
    mut stopping: watch::Receiver<bool>,
) -> ClientExit {
    // Dropped after the peer, so its descriptor is closed only when the process is gone.
    let mut message = Message::default();
    let peer = match Peer::from_stream(&stream) {
        Ok(peer) => peer,
        Err(error) => return shared.record_exit(0, ExitReason::Refused(HandshakeError::Peer(error))),
    };
    let (memory, handshake_timeout) = (shared.memory.bytes(), shared.options.handshake_timeout);
    let handshake = tokio::select! {
        biased;
        () = stop_requested(&mut stopping) => None,
        handshake = message.receive(&stream, memory, handshake_timeout) => Some(handshake),
    };
    let reason = match handshake {
        Some(Ok(handshake)) => {
            return ClientGuard::new(peer, handshake, shared).serve_until_exit(&mut stopping).await;
        }
        Some(Err(error)) => ExitReason::Refused(error),
        None => ExitReason::Stopped,
    };
    peer.kill_and_wait().await;
    shared.record_exit(peer.pid(), reason)
}

/// Waits until the server is stopped.
async fn stop_requested(stopping: &mut watch::Receiver<bool>) {
    // A dropped sender also means that the server has stopped.
    stopping.wait_for(|stop| *stop).await.ok();
}

/// A clone that is being served. `peer` is the first field, so that the process is gone before its memory is
/// released.
#[derive(Debug)]
struct Client {
    peer: Peer,
    handshake: Handshake,
    shared: Arc<Shared>,
}

impl Client {
    /// Answers faults until the process has exited.
    fn serve_faults(&self) -> (Counters, Result<(), ServeError>) {
        let mut service = Service::new(&self.shared, &self.handshake, self.peer.pidfd());
        let outcome = service.run();
        (service.into_counters(), outcome)
    }
}

/// A clone that a task waits for; dropping it kills the process.
#[derive(Debug)]
struct ClientGuard(Arc<Client>);

/// The result of a fault thread.
type ThreadResult = oneshot::Receiver<(Counters, Result<(), ServeError>)>;

impl ClientGuard {
    fn new(peer: Peer, handshake: Handshake, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Client { peer, handshake, shared }))
    }

    async fn serve_until_exit(self, stopping: &mut watch::Receiver<bool>) -> ClientExit {
        let Client { peer, shared, .. } = &*self.0;
        let (reason, counters) = match self.spawn_thread() {
            Ok(result) => self.wait_for_thread(result, stopping).await,
            Err(error) => (ExitReason::Failed(ServeError::Thread(error)), Counters::default()),
        };
        peer.kill_and_wait().await;
        shared.record_exit_after(peer.pid(), reason, counters)
    }

    fn spawn_thread(&self) -> io::Result<ThreadResult> {
        let (sender, result) = oneshot::channel();
        let client = Arc::clone(&self.0);
        let name = format!("pages {}", client.peer.pid());
        thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let outcome = client.serve_faults();
            // Release the clone before reporting its result.
            drop(client);
            sender.send(outcome).ok();
        })?;
        Ok(result)
    }

    /// Waits for the thread, which ends with the process. After a stop it is not waited for if the process
    /// cannot be killed.
    async fn wait_for_thread(
        &self,
        mut result: ThreadResult,
        stopping: &mut watch::Receiver<bool>,
    ) -> (ExitReason, Counters) {
        let (stopped, outcome) = tokio::select! {
            outcome = &mut result => (false, outcome),
            () = stop_requested(stopping) => match self.0.peer.kill() {
                true => (true, result.await),
                false => return (ExitReason::Stopped, Counters::default()),
            },
        };
        match outcome {
            Ok((counters, Ok(()))) if stopped => (ExitReason::Stopped, counters),
            Ok((counters, Ok(()))) => (ExitReason::Exited, counters),
            Ok((counters, Err(error))) => (ExitReason::Failed(error), counters),
            Err(panicked) => {
                (ExitReason::Failed(ServeError::Thread(io::Error::other(panicked))), Counters::default())
            }
        }
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.0.peer.kill();
    }
}
