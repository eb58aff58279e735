//! The supervisor's control socket and its clients.

use std::io;
use std::path::Path;

use bytes::Bytes;
use mimeo_agent_protocol::link::{self, FrameReader, Link, Stream};
use mimeo_agent_protocol::message::{Failure, FailureKind, Reply, Request};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::attach::Arrival;
use super::relay::relay;
use crate::control::{ControlReply, ControlRequest, SOCKET};
use crate::machine::{Action, Phase, decide};

/// A request that only the task that owns the machine can serve.
pub(super) type PendingRequest = (ControlRequest, oneshot::Sender<ControlReply>);

/// What a client's session needs.
#[derive(Debug, Clone)]
pub(super) struct ControlHandle {
    pub(super) guest: Link,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) requests: mpsc::Sender<PendingRequest>,
    /// Receives the clients that attach to the container's streams.
    pub(super) arrivals: mpsc::Sender<Arrival>,
}

/// The control socket and its open sessions.
#[derive(Debug)]
pub(super) struct Clients {
    listener: UnixListener,
    handle: ControlHandle,
    sessions: JoinSet<()>,
}

impl Clients {
    pub(super) fn listen(run: &Path, handle: ControlHandle) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(run.join(SOCKET))?, handle, sessions: JoinSet::new() })
    }

    /// Accepts clients. Never returns; cancellation-safe.
    pub(super) async fn accept(&mut self) {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        self.sessions.spawn(serve_client(socket, self.handle.clone()));
                    }
                    // Most likely EMFILE: wait until an open session ends.
                    Err(error) => {
                        tracing::warn!(component = "control", %error, "cannot accept a client");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
                Some(_) = self.sessions.join_next() => {}
            }
        }
    }

    /// Waits until each client has read its reply and disconnected.
    pub(super) async fn finish(mut self) {
        drop(self.listener);
        while self.sessions.join_next().await.is_some() {}
    }
}

async fn serve_client(socket: UnixStream, handle: ControlHandle) {
    let (reader, writer) = socket.into_split();
    let name = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
    // A client with another protocol version reads that from our hello.
    let Ok(mut accepted) = link::accept(FrameReader::new(reader), writer, name).await else { return };
    let mut handlers = JoinSet::new();
    while let Some((request, stream)) = accepted.incoming.next().await {
        handlers.spawn(handle_request(request, stream, handle.clone()));
    }
}

async fn handle_request(request: Bytes, stream: Stream, handle: ControlHandle) {
    match serde_json::from_slice(&request) {
        Ok(ControlRequest::Guest { request }) => forward_to_guest(*request, stream, &handle).await,
        // A machine that is ending drops the stream: the client reads the machine's state then.
        Ok(ControlRequest::Attach { stdin }) => {
            handle.arrivals.send(Arrival { stream, stdin }).await.ok();
        }
        Ok(request) => forward_to_supervisor(request, &stream, &handle).await,
        Err(error) => {
            stream.sender.message(&ControlReply::Failed { message: format!("unreadable request: {error}") });
        }
    }
}

async fn forward_to_guest(request: Request, stream: Stream, handle: &ControlHandle) {
    let refuse = |kind, message| {
        stream.sender.message(&Reply::Failed(Failure { kind, message }));
    };
    if !is_allowed(&request) {
        return refuse(FailureKind::Invalid, "only the supervisor may send this request".to_owned());
    }
    if *handle.phase.borrow() == Phase::DiskError {
        // The disk may have space again. If not, the phase is as before.
        request_supervisor(ControlRequest::RetryDisk, handle).await;
    }
    let phase = *handle.phase.borrow();
    if let Err(refusal) = decide(phase, Action::Enter) {
        return refuse(FailureKind::WrongState, refusal.to_string());
    }
    match handle.guest.open(&request) {
        Ok(guest) => relay(stream, guest).await,
        Err(error) => refuse(FailureKind::WrongState, error.to_string()),
    }
}

/// Whether a client may send `request` to the guest: nothing that creates or ends a machine.
fn is_allowed(request: &Request) -> bool {
    match request {
        Request::Exec(_)
        | Request::Metrics
        | Request::Processes
        | Request::Probe { .. }
        | Request::ReadArchive { .. }
        | Request::ReadRoot
        | Request::ReadChanges { .. }
        | Request::WriteArchive { .. }
        | Request::Stat { .. }
        | Request::StatFile { .. }
        | Request::ListDirectory { .. }
        | Request::ReadFile { .. }
        | Request::WriteFile(_)
        | Request::MakeDirectory(_)
        | Request::RemovePath { .. } => true,
        Request::Configure(_)
        | Request::DiskVolume(_)
        | Request::Volume(_)
        | Request::Start(_)
        | Request::Signal { .. }
        | Request::SetClock { .. }
        | Request::Clock
        | Request::Attach
        | Request::Prepare
        | Request::Freeze
        | Request::Reset
        | Request::Thaw { .. }
        | Request::Identify(_)
        | Request::Shutdown => false,
    }
}

async fn forward_to_supervisor(request: ControlRequest, stream: &Stream, handle: &ControlHandle) {
    if let Some(reply) = request_supervisor(request, handle).await {
        stream.sender.message(&reply);
    }
}

/// Has the task that owns the machine serve a request. A machine that is ending no longer replies: the client sees
/// the end of the stream and reads the machine's state again.
async fn request_supervisor(request: ControlRequest, handle: &ControlHandle) -> Option<ControlReply> {
    let (reply_sender, reply) = oneshot::channel();
    // A request that is not received is dropped together with its reply channel.
    handle.requests.send((request, reply_sender)).await.ok();
    reply.await.ok()
}
