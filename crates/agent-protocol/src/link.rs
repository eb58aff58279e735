//! Many streams over one byte channel.
//!
//! One side connects ([`connect`]) and opens streams, the other accepts
//! ([`accept`]) and answers them. Data is flow-controlled stream by stream, so
//! that a slow reader of one never holds up another.
//!
//! ```text
//! connecting side                     accepting side
//!   preamble, hello  ─────────────▶
//!                    ◀─────────────   preamble, hello
//!   open(1), data(1) ─────────────▶   Incoming::next() -> (request, Stream)
//!                    ◀─────────────   message(1), data(1), end(1)
//! ```

mod drive;
mod handshake;
mod reader;
mod stream;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::frame::{Frame, HeaderError, Kind};
pub use handshake::{Accepted, accept, connect};
pub use reader::FrameReader;
pub use stream::{Item, Receiver, Sender, Stream};

/// What a stream's data may cost on the way before its reader has taken any.
pub const WINDOW: usize = 256 * 1024;
/// What each frame costs besides its payload: about what it takes to hold it.
/// Without it a peer could fill our memory with frames of one byte.
const FRAME_COST: usize = 64;
/// Data that one link may have waiting to be written, over all of its streams.
/// A peer that grants credit and does not read holds us up, not our memory.
const MAX_UNWRITTEN: usize = 4 * 1024 * 1024;
/// Frames of any kind that may wait to be written; a peer that makes us answer
/// more without reading breaks the rules.
const MAX_UNWRITTEN_FRAMES: usize = 64 * 1024;
/// Bytes that may wait for one stream's reader; a peer that sends more breaks the rules.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// Streams open at once on one link.
const MAX_STREAMS: usize = 4096;

/// How a session begins, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The session's number, given by the connecting side.
    pub generation: u32,
    /// The sender's program and version, for the logs.
    pub name: String,
}

/// Why a link came to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The channel was closed by the other side.
    #[error("the other side closed the link")]
    Closed,
    /// The other side began a new session on the same channel.
    #[error("the other side began a new session")]
    Restarted,
    /// Reading or writing the channel failed.
    #[error("the link failed")]
    Io(#[source] Arc<std::io::Error>),
    /// The other side broke the rules of the wire.
    #[error("malformed frame on the link")]
    Frame(#[from] HeaderError),
    /// The other side broke the rules of the session.
    #[error("the other side {0}")]
    Violation(&'static str),
    /// The two sides do not speak the same protocol.
    #[error("the other side ({name}) speaks protocol {theirs}, this is {ours}")]
    Protocol {
        /// Who the other side says it is.
        name: String,
        /// Its number.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// One side of a session. Clones are handles to the same session, which ends
/// when the last of them and the last of its streams have gone.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

/// The streams that the other side opens, in order.
#[derive(Debug)]
pub struct Incoming {
    opened: mpsc::UnboundedReceiver<(Bytes, Stream)>,
    _session: Arc<Shared>,
}

impl Incoming {
    /// The next request and its stream; `None` when the session is over.
    pub async fn next(&mut self) -> Option<(Bytes, Stream)> {
        self.opened.recv().await
    }
}

impl Link {
    /// Opens a stream with `request` as its first message.
    ///
    /// # Errors
    /// When the session is over, or too many streams are open.
    pub fn open<R: Serialize>(&self, request: &R) -> Result<Stream, LinkError> {
        let payload = encode(request);
        let id = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let stream = self.shared.register(id)?;
        self.shared.send(id, Kind::Open, 0, payload);
        Ok(stream)
    }

    /// As [`Link::open`], and writes nothing behind the request until the hold
    /// is let go. What is sent meanwhile waits, as for a peer that does not read.
    ///
    /// For a snapshot: the other side is captured as it is after this request.
    /// A frame that were half in it by then would take the beginning of its
    /// copy's first session for its own other half.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_and_hold<R: Serialize>(&self, request: &R) -> Result<(Stream, Hold), LinkError> {
        let payload = encode(request);
        let id = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let stream = self.shared.register(id)?;
        let (release, resumed) = oneshot::channel();
        self.shared.queue(id, Kind::Open, 0, payload, 0, Some(resumed));
        Ok((stream, Hold { _release: release }))
    }

    /// The session's number.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.generation
    }

    /// Why the session ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<&LinkError> {
        self.shared.ended.get()
    }

    /// Waits until the session is over.
    pub async fn closed(&self) {
        self.shared.outgoing.closed().await;
    }
}

/// Keeps a link from writing; dropped, it writes again.
#[derive(Debug)]
#[must_use = "dropped, the link writes again at once"]
pub struct Hold {
    _release: oneshot::Sender<Infallible>,
}

impl Hold {
    /// Has the link write again.
    pub fn release(self) {}
}

/// What both halves of the driver and every stream share.
#[derive(Debug)]
struct Shared {
    generation: u32,
    next_stream: AtomicU32,
    streams: Mutex<HashMap<u32, Entry>>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    /// Room for data that waits to be written.
    write_budget: Arc<Semaphore>,
    /// Frames that wait to be written.
    unwritten: Arc<AtomicUsize>,
    ended: OnceLock<LinkError>,
}

/// A frame that waits to be written, and the room that it took.
#[derive(Debug)]
struct Outgoing {
    frame: Frame,
    charge: usize,
    /// Nothing behind this frame is written before that comes to its end.
    resumed: Option<oneshot::Receiver<Infallible>>,
}

/// What the reader knows of a stream.
#[derive(Debug)]
struct Entry {
    items: mpsc::UnboundedSender<Delivery>,
    /// Bytes that wait for the stream's reader.
    queued: Arc<AtomicUsize>,
    /// Data bytes that this side may still send.
    credit: Arc<Semaphore>,
    sent_end: bool,
    received_end: bool,
}

/// What the reader hands to a stream.
#[derive(Debug)]
enum Delivery {
    Item(Item),
    End,
    Reset,
    Lost(LinkError),
}

impl Shared {
    fn new(generation: u32, outgoing: mpsc::UnboundedSender<Outgoing>) -> Arc<Self> {
        Arc::new(Self {
            generation,
            next_stream: AtomicU32::new(1),
            streams: Mutex::default(),
            outgoing,
            write_budget: Arc::new(Semaphore::new(MAX_UNWRITTEN)),
            unwritten: Arc::default(),
            ended: OnceLock::new(),
        })
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        // No code panics while it holds the lock; if it did, the map is still whole.
        self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, id: u32) -> Result<Stream, LinkError> {
        let (items, deliveries) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let credit = Arc::new(Semaphore::new(WINDOW));
        let entry = Entry {
            items,
            queued: queued.clone(),
            credit: credit.clone(),
            sent_end: false,
            received_end: false,
        };
        let mut streams = self.streams();
        if let Some(reason) = self.ended.get() {
            return Err(reason.clone());
        }
        if streams.len() >= MAX_STREAMS {
            return Err(LinkError::Violation("has too many streams open"));
        }
        streams.insert(id, entry);
        drop(streams);
        Ok(Stream::new(self.clone(), id, credit, deliveries, queued))
    }

    /// Queues a frame. When the session is over the frame has nowhere to go,
    /// and whoever waits for its effect learns that from the stream.
    fn send(&self, stream: u32, kind: Kind, channel: u8, payload: Bytes) {
        self.queue(stream, kind, channel, payload, 0, None);
    }

    /// Queues a frame that has taken `room`, and may hold up all behind it.
    fn queue(
        &self,
        stream: u32,
        kind: Kind,
        channel: u8,
        payload: Bytes,
        charge: usize,
        resumed: Option<oneshot::Receiver<Infallible>>,
    ) {
        let frame = Frame { generation: self.generation, stream, kind, channel, payload };
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        self.outgoing.send(Outgoing { frame, charge, resumed }).ok();
    }

    /// Ends every stream with the reason that the session had.
    fn close(&self, reason: &LinkError) {
        self.ended.get_or_init(|| reason.clone());
        self.write_budget.close();
        for (_, entry) in self.streams().drain() {
            entry.credit.close();
            entry.items.send(Delivery::Lost(reason.clone())).ok();
        }
    }
}

/// What a frame with a payload of `bytes` costs its stream.
fn cost(bytes: usize) -> usize {
    FRAME_COST + bytes
}

/// JSON of a value that is ours: maps have string keys and nothing fails.
fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests;
