//! The container's output: written to the log and to the foreground streams.

use std::time::Duration;

use bytes::Bytes;
use mimeo_agent_protocol::link::{Item, LinkError, Receiver};
use mimeo_agent_protocol::message::{ExitStatus, Reply, channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::attach::AttachedClients;
use super::foreground::Foreground;
use crate::log::{LogWriter, Output};
use crate::machine::Claim;

/// First and longest time between attempts to write to the log that output is missing.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Destinations of the container's output.
pub(super) struct Outputs {
    log: LogWriter,
    foreground: Option<Foreground>,
    attached: AttachedClients,
    /// Publishes the number of bytes that could not be logged.
    lost: watch::Sender<u64>,
    /// When to write to the log what is missing, and the time to the attempt after that.
    retry: Option<(Instant, Duration)>,
}

impl Outputs {
    /// The destinations of a machine's output, and the number of bytes that could not be logged.
    pub(super) fn new(
        claim: &Claim,
        foreground: Option<Foreground>,
        attached: AttachedClients,
    ) -> (Self, watch::Receiver<u64>) {
        let record = &claim.record;
        let log = LogWriter::open(&claim.dir, record.spec.log, record.log_lost_bytes);
        let (lost, receiver) = watch::channel(record.log_lost_bytes);
        (Self { log, foreground, attached, lost, retry: None }, receiver)
    }

    /// Forwards the output until the container has ended.
    pub(super) async fn forward(
        mut self,
        mut container: Receiver,
        wait_for_client: bool,
    ) -> Result<ExitStatus, LinkError> {
        if wait_for_client {
            self.attached.wait_for_first().await;
        }
        let ended = loop {
            let item = tokio::select! {
                item = container.next() => item,
                () = self.attached.accept() => continue,
                () = due(self.retry) => {
                    self.mention_loss();
                    continue;
                }
            };
            match item {
                Ok(Some(Item::Data { channel: channel::STDERR, bytes })) => {
                    self.write(Output::Stderr, bytes).await
                }
                Ok(Some(Item::Data { bytes, .. })) => self.write(Output::Stdout, bytes).await,
                Ok(Some(Item::Message(json))) => {
                    if let Ok(Reply::Exited { status }) = serde_json::from_slice(&json) {
                        self.attached.finish(status);
                        break Ok(status);
                    }
                }
                Ok(None) => {
                    break Err(LinkError::Violation("ended the container's stream without its status"));
                }
                Err(error) => break Err(error),
            }
        };
        self.mention_loss();
        ended
    }

    async fn write(&mut self, output: Output, bytes: Bytes) {
        let lost = self.log.lost_bytes();
        self.log.write(output, &bytes);
        if self.log.lost_bytes() > lost && self.retry.is_none() {
            self.lost.send_replace(self.log.lost_bytes());
            self.retry = Some((Instant::now() + FIRST_RETRY, FIRST_RETRY * 2));
        }
        let channel = if output == Output::Stderr { channel::STDERR } else { channel::STDOUT };
        self.attached.write(channel, &bytes).await;
        if let Some(foreground) = &mut self.foreground {
            foreground.send(output, bytes).await;
        }
    }

    /// Writes to the log how much output is missing. If that fails, too, it is tried again later.
    fn mention_loss(&mut self) {
        let is_mentioned = self.log.mention_loss();
        self.lost.send_if_modified(|lost| std::mem::replace(lost, self.log.lost_bytes()) != *lost);
        self.retry = match self.retry {
            Some((_, wait)) if !is_mentioned => Some((Instant::now() + wait, (wait * 2).min(MAX_RETRY))),
            _ => None,
        };
    }
}

async fn due(retry: Option<(Instant, Duration)>) {
    match retry {
        Some((at, _)) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
