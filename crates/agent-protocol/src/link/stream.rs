//! One stream of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

use super::{Delivery, LinkError, Shared, WINDOW, cost, encode};
use crate::frame::{Kind, MAX_DATA};

/// What a stream delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message, as JSON.
    Message(Bytes),
    /// Bytes of one of the stream's channels. No bytes mean the end of the channel.
    Data {
        /// The channel.
        channel: u8,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Both halves of a stream. Dropping it sends the end of the stream, then resets it.
#[derive(Debug)]
pub struct Stream {
    // Dropped first, so that the end of the stream precedes its reset.
    /// The sending half.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
}

/// The sending half. Dropping it sends the end of the stream.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    id: u32,
    credit: Arc<Semaphore>,
}

/// The receiving half. Dropping it before the end resets the stream, in both directions.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    id: u32,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    queued: Arc<AtomicUsize>,
    /// Cost of the data that was read and for which no new credit was granted yet.
    uncredited: usize,
    over: bool,
}

impl Stream {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u32,
        credit: Arc<Semaphore>,
        deliveries: mpsc::UnboundedReceiver<Delivery>,
        queued: Arc<AtomicUsize>,
    ) -> Self {
        let sender = Sender { shared: shared.clone(), id, credit };
        let receiver = Receiver { shared, id, deliveries, queued, uncredited: 0, over: false };
        Self { sender, receiver }
    }
}

impl Sender {
    /// Sends a message. It is queued without waiting: messages are few and small.
    pub fn message<T: Serialize>(&self, message: &T) {
        self.shared.send(self.id, Kind::Message, 0, encode(message));
    }

    /// Forwards a message that is JSON already, as soon as the write budget allows:
    /// its sender may send faster than its reader reads.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn raw_message(&self, json: Bytes) -> Result<(), LinkError> {
        self.send_within_budget(Kind::Message, 0, json).await
    }

    /// Sends bytes on a channel, as fast as the other side reads them.
    /// Sending no bytes ends the channel.
    ///
    /// # Errors
    /// When the stream was reset or the session is over.
    pub async fn data(&self, channel: u8, mut bytes: Bytes) -> Result<(), LinkError> {
        if bytes.is_empty() {
            self.shared.send(self.id, Kind::Data, channel, bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(MAX_DATA));
            let permits = self.credit.acquire_many(cost(chunk.len()) as u32).await;
            permits.map_err(|_| self.close_reason())?.forget();
            self.send_within_budget(Kind::Data, channel, chunk).await?;
        }
        Ok(())
    }

    /// Whether the session is over, which ends all of its streams.
    #[must_use]
    pub fn session_over(&self) -> bool {
        self.shared.ended.get().is_some()
    }

    /// Queues a frame as soon as the write budget allows. The writer gives the budget back.
    async fn send_within_budget(&self, kind: Kind, channel: u8, payload: Bytes) -> Result<(), LinkError> {
        let charge = cost(payload.len());
        self.shared.write_budget.acquire_many(charge as u32).await.map_err(|_| self.close_reason())?.forget();
        self.shared.queue(self.id, kind, channel, payload, charge, None);
        Ok(())
    }

    fn close_reason(&self) -> LinkError {
        self.shared.ended.get().cloned().unwrap_or(LinkError::Violation("reset the stream"))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut streams = self.shared.streams();
        let Some(entry) = streams.get_mut(&self.id) else { return };
        entry.sent_end = true;
        if entry.received_end {
            streams.remove(&self.id);
        }
        drop(streams);
        self.shared.send(self.id, Kind::End, 0, Bytes::new());
    }
}

impl Receiver {
    /// The next item; `None` after the other side's end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// When the other side reset the stream, or the session is over.
    pub async fn next(&mut self) -> Result<Option<Item>, LinkError> {
        if self.over {
            return Ok(None);
        }
        match self.deliveries.recv().await {
            Some(Delivery::Item(item)) => {
                self.record_taken(&item);
                Ok(Some(item))
            }
            Some(Delivery::End) => {
                self.over = true;
                Ok(None)
            }
            Some(Delivery::Reset) => {
                self.over = true;
                Err(LinkError::Violation("reset the stream"))
            }
            Some(Delivery::Lost(reason)) => {
                self.over = true;
                Err(reason)
            }
            None => Err(LinkError::Closed),
        }
    }

    /// Waits until the other side has reset the stream, or the session is over.
    /// Items that come before that are dropped.
    pub async fn wait_for_reset(&mut self) {
        while let Some(delivery) = self.deliveries.recv().await {
            match delivery {
                Delivery::Item(item) => self.record_taken(&item),
                Delivery::End => self.over = true,
                Delivery::Reset | Delivery::Lost(_) => return,
            }
        }
    }

    /// The next message. Data before it is skipped.
    ///
    /// # Errors
    /// As [`Receiver::next`], and when the message is not a `T` or the stream ends without one.
    pub async fn message<T: DeserializeOwned>(&mut self) -> Result<T, LinkError> {
        loop {
            match self.next().await? {
                Some(Item::Message(json)) => {
                    return serde_json::from_slice(&json)
                        .map_err(|_| LinkError::Violation("sent a message that cannot be read"));
                }
                Some(Item::Data { .. }) => {}
                None => return Err(LinkError::Violation("ended the stream without an answer")),
            }
        }
    }

    fn record_taken(&mut self, item: &Item) {
        let (Item::Message(bytes) | Item::Data { bytes, .. }) = item;
        self.queued.fetch_sub(cost(bytes.len()), Ordering::Relaxed);
        // The end of a channel is sent without credit.
        if !matches!(item, Item::Data { .. }) || bytes.is_empty() {
            return;
        }
        self.uncredited += cost(bytes.len());
        if self.uncredited >= WINDOW / 2 {
            let grant = std::mem::take(&mut self.uncredited) as u32;
            let payload = Bytes::copy_from_slice(&grant.to_le_bytes());
            self.shared.send(self.id, Kind::Credit, 0, payload);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut streams = self.shared.streams();
        let Some(entry) = streams.get(&self.id) else { return };
        if entry.received_end {
            return;
        }
        entry.credit.close();
        streams.remove(&self.id);
        drop(streams);
        self.shared.send(self.id, Kind::Reset, 0, Bytes::new());
    }
}
