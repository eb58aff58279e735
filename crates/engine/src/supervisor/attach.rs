//! Clients that are attached to the container's standard streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use mimeo_agent_protocol::link::{Item, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Failure, FailureKind, Input, Reply, channel};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clients::PendingRequest;
use super::foreground::reader_timeout;
use crate::control::ControlRequest;

/// Clients that may wait to be attached.
const MAX_WAITING: usize = 16;
/// A client that has not read any of its output for this long is detached: it must not stop the container.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the container's output waits for the client that started the machine in order to be attached.
const FIRST_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that asks to be attached.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// Whether its input goes to the container.
    pub(super) stdin: bool,
}

/// The attached clients.
#[derive(Debug)]
pub(super) struct AttachedClients {
    arrivals: mpsc::Receiver<Arrival>,
    outputs: Vec<Sender>,
    /// Forward the clients' input.
    inputs: JoinSet<()>,
    container: Arc<Sender>,
    /// Receives the signals that clients send to the container.
    requests: mpsc::Sender<PendingRequest>,
    /// Whether the machine was told to end.
    ending: watch::Receiver<bool>,
}

impl AttachedClients {
    pub(super) fn new(
        container: Arc<Sender>,
        requests: mpsc::Sender<PendingRequest>,
        ending: watch::Receiver<bool>,
    ) -> (mpsc::Sender<Arrival>, Self) {
        let (sender, arrivals) = mpsc::channel(MAX_WAITING);
        let (outputs, inputs) = (Vec::new(), JoinSet::new());
        (sender, Self { arrivals, outputs, inputs, container, requests, ending })
    }

    /// Waits for the client that started the machine, so that it misses no output.
    pub(super) async fn wait_for_first(&mut self) {
        if timeout(FIRST_CLIENT_TIMEOUT, self.accept()).await.is_err() {
            tracing::warn!(component = "attach", "the client that started the machine was not attached");
        }
    }

    /// Attaches the next client. Never returns without one; cancellation-safe.
    pub(super) async fn accept(&mut self) {
        let Some(Arrival { stream, stdin }) = self.arrivals.recv().await else {
            return std::future::pending().await;
        };
        let Stream { sender, receiver } = stream;
        while self.inputs.try_join_next().is_some() {}
        let (container, requests) = (self.container.clone(), self.requests.clone());
        self.inputs.spawn(forward_input(receiver, stdin, container, requests));
        self.outputs.push(sender);
    }

    /// Sends output to all clients. Those that are gone, or do not read, are detached.
    pub(super) async fn write(&mut self, channel: u8, bytes: &Bytes) {
        let written = self.outputs.drain(..).map(|client| {
            let (bytes, ending) = (bytes.clone(), self.ending.clone());
            write_to_client(client, channel, bytes, ending)
        });
        self.outputs = join_all(written).await.into_iter().flatten().collect();
    }

    /// Reports the container's exit to all clients.
    pub(super) fn finish(&mut self, status: ExitStatus) {
        for client in self.outputs.drain(..) {
            client.message(&Reply::Exited { status });
        }
    }
}

/// Sends output to a client; returns it unless it is gone or was detached.
async fn write_to_client(
    client: Sender,
    channel: u8,
    bytes: Bytes,
    mut ending: watch::Receiver<bool>,
) -> Option<Sender> {
    let sent = tokio::select! {
        sent = client.data(channel, bytes) => Some(sent),
        () = sleep(READ_TIMEOUT) => None,
        () = reader_timeout(&mut ending) => None,
    };
    match sent {
        Some(Ok(())) => Some(client),
        // The client is gone.
        Some(Err(_)) => None,
        None => {
            tracing::warn!(component = "attach", "a client does not read its output: it is detached");
            let message = "detached, because the output was not read: some of it is missing".to_owned();
            client.message(&Reply::Failed(Failure { kind: FailureKind::WrongState, message }));
            None
        }
    }
}

/// Forwards a client's input until it disconnects: its data to the container's standard input, its terminal's sizes
/// and its signals.
async fn forward_input(
    mut client: Receiver,
    stdin: bool,
    container: Arc<Sender>,
    requests: mpsc::Sender<PendingRequest>,
) {
    while let Ok(Some(item)) = client.next().await {
        match item {
            Item::Data { channel: channel::STDIN, bytes } if stdin => {
                if container.data(channel::STDIN, bytes).await.is_err() {
                    return;
                }
            }
            Item::Data { .. } => {}
            Item::Message(json) => match serde_json::from_slice(&json) {
                Ok(Input::Signal { signal }) => {
                    // As for `kill`: the restart policy must know of it. The client waits for no reply.
                    let (reply, _) = oneshot::channel();
                    requests.send((ControlRequest::Signal { signal }, reply)).await.ok();
                }
                Ok(input) => container.message(&input),
                // A message of a newer client.
                Err(_) => {}
            },
        }
    }
}
