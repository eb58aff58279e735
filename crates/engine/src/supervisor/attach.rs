//! Clients that are attached to the container's standard streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ExitStatus, Input, Reply, channel};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

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
}

impl AttachedClients {
    pub(super) fn new(container: Arc<Sender>) -> (mpsc::Sender<Arrival>, Self) {
        let (sender, arrivals) = mpsc::channel(MAX_WAITING);
        (sender, Self { arrivals, outputs: Vec::new(), inputs: JoinSet::new(), container })
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
        self.inputs.spawn(forward_input(receiver, stdin, self.container.clone()));
        self.outputs.push(sender);
    }

    /// Sends output to all clients. Those that are gone, or do not read, are detached.
    pub(super) async fn write(&mut self, channel: u8, bytes: &Bytes) {
        let mut index = 0;
        while let Some(client) = self.outputs.get(index) {
            match timeout(READ_TIMEOUT, client.data(channel, bytes.clone())).await {
                Ok(Ok(())) => index += 1,
                // The client is gone.
                Ok(Err(_)) => drop(self.outputs.swap_remove(index)),
                Err(_) => {
                    tracing::warn!(component = "attach", "a client does not read its output: it is detached");
                    self.outputs.swap_remove(index);
                }
            }
        }
    }

    /// Reports the container's exit to all clients.
    pub(super) fn finish(&mut self, status: ExitStatus) {
        for client in self.outputs.drain(..) {
            client.message(&Reply::Exited { status });
        }
    }
}

/// Forwards a client's input until it disconnects: its data to the container's standard input, its terminal's sizes
/// and its signals.
async fn forward_input(mut client: Receiver, stdin: bool, container: Arc<Sender>) {
    while let Ok(Some(item)) = client.next().await {
        match item {
            Item::Data { channel: channel::STDIN, bytes } if stdin => {
                if container.data(channel::STDIN, bytes).await.is_err() {
                    return;
                }
            }
            Item::Data { .. } => {}
            Item::Message(json) => {
                if let Ok(input) = serde_json::from_slice::<Input>(&json) {
                    container.message(&input);
                }
            }
        }
    }
}
