//! Many streams over one byte channel.
//!
//! One side connects ([`connect`]) and opens streams, the other accepts
//! ([`accept`]) and answers them. Each stream has its own flow control, so that
//! a slow reader of one stream does not block the others.
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

/// Flow-control window of a stream: the cost of the data that may be in flight
/// before the reader has read any.
pub const WINDOW: usize = 256 * 1024;
/// Cost of a frame besides its payload: about the memory that a queued frame
/// takes. Without it a peer could fill our memory with frames of one byte.
const FRAME_COST: usize = 64;
/// Largest amount of unwritten data of one link, over all of its streams. A peer
/// that grants credit and does not read blocks our senders, but takes no more memory.
const MAX_UNWRITTEN: usize = 4 * 1024 * 1024;
/// Largest number of unwritten frames of any kind. A peer that makes us queue
/// more without reading violates the protocol.
const MAX_UNWRITTEN_FRAMES: usize = 64 * 1024;
/// Largest cost of what is queued for one stream's reader. A peer that sends
/// more violates the protocol.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// Largest number of open streams on one link.
const MAX_STREAMS: usize = 4096;

/// The first frame of a session, in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The session's number, chosen by the connecting side.
    #[serde(rename = "generation")]
    pub session: u32,
    /// The sender's program and version, for the logs.
    pub name: String,
}

/// Why a session ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The other side closed the channel.
    #[error("the other side closed the link")]
    Closed,
    /// The other side began a new session on the same channel.
    #[error("the other side began a new session")]
    Restarted,
    /// Reading or writing the channel failed.
    #[error("the link failed")]
    Io(#[source] Arc<std::io::Error>),
    /// The other side sent a malformed frame.
    #[error("malformed frame on the link")]
    Frame(#[from] HeaderError),
    /// The other side violated the protocol.
    #[error("the other side {0}")]
    Violation(&'static str),
    /// The two sides have different protocol versions.
    #[error("the other side ({name}) speaks protocol {theirs}, this is {ours}")]
    Protocol {
        /// The other side's program and version, by its own account.
        name: String,
        /// Its protocol version.
        theirs: u32,
        /// Our protocol version.
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

/// One side of a session. Clones are handles to the same session. It ends when
/// its last handle and its last stream are dropped.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

/// The streams that the other side opens, in the order in which it opens them.
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

    /// Opens a stream as [`Link::open`] does, and writes nothing after the request
    /// until the pause is dropped. Frames that are sent meanwhile are queued, as for
    /// a peer that does not read.
    ///
    /// This is for snapshots: the other side is captured in its state after this
    /// request. If it had received half a frame by then, a clone of it would read the
    /// beginning of its first session as the other half.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_and_pause_writes<R: Serialize>(
        &self,
        request: &R,
    ) -> Result<(Stream, WritePause), LinkError> {
        let payload = encode(request);
        let id = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let stream = self.shared.register(id)?;
        let (resume, resumed) = oneshot::channel();
        self.shared.queue(id, Kind::Open, 0, payload, 0, Some(resumed));
        Ok((stream, WritePause { _resume: resume }))
    }

    /// The session's number.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.shared.session
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

/// Keeps a link from writing. Dropping it resumes writing.
#[derive(Debug)]
#[must_use = "dropping it resumes writing at once"]
pub struct WritePause {
    _resume: oneshot::Sender<Infallible>,
}

impl WritePause {
    /// Resumes writing.
    pub fn resume(self) {}
}

/// State shared by both halves of the driver and all streams.
#[derive(Debug)]
struct Shared {
    session: u32,
    next_stream: AtomicU32,
    streams: Mutex<HashMap<u32, Entry>>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    /// The part of [`MAX_UNWRITTEN`] that is still free.
    write_budget: Arc<Semaphore>,
    /// Number of frames that are not written yet.
    unwritten: Arc<AtomicUsize>,
    ended: OnceLock<LinkError>,
}

/// A frame that is not written yet.
#[derive(Debug)]
struct Outgoing {
    frame: Frame,
    /// The part of the write budget that the frame took.
    charge: usize,
    /// Nothing after this frame is written before this channel is closed.
    resumed: Option<oneshot::Receiver<Infallible>>,
}

/// The reader's state of a stream.
#[derive(Debug)]
struct Entry {
    items: mpsc::UnboundedSender<Delivery>,
    /// Cost of what is queued for the stream's reader.
    queued: Arc<AtomicUsize>,
    /// Credit: the cost of the data that this side may still send.
    credit: Arc<Semaphore>,
    sent_end: bool,
    received_end: bool,
}

/// What the reader delivers to a stream.
#[derive(Debug)]
enum Delivery {
    Item(Item),
    End,
    Reset,
    Lost(LinkError),
}

impl Shared {
    fn new(session: u32, outgoing: mpsc::UnboundedSender<Outgoing>) -> Arc<Self> {
        Arc::new(Self {
            session,
            next_stream: AtomicU32::new(1),
            streams: Mutex::default(),
            outgoing,
            write_budget: Arc::new(Semaphore::new(MAX_UNWRITTEN)),
            unwritten: Arc::default(),
            ended: OnceLock::new(),
        })
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        // No code panics while it holds the lock. If it did, the map would still be consistent.
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

    /// Queues a frame. When the session is over, the frame is dropped: the stream
    /// reports the end of the session to its user.
    fn send(&self, stream: u32, kind: Kind, channel: u8, payload: Bytes) {
        self.queue(stream, kind, channel, payload, 0, None);
    }

    /// Queues a frame that took `charge` of the write budget, and that may pause
    /// the frames after it.
    fn queue(
        &self,
        stream: u32,
        kind: Kind,
        channel: u8,
        payload: Bytes,
        charge: usize,
        resumed: Option<oneshot::Receiver<Infallible>>,
    ) {
        let frame = Frame { session: self.session, stream, kind, channel, payload };
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        self.outgoing.send(Outgoing { frame, charge, resumed }).ok();
    }

    /// Ends every stream with the reason for the session's end.
    fn close(&self, reason: &LinkError) {
        self.ended.get_or_init(|| reason.clone());
        self.write_budget.close();
        for (_, entry) in self.streams().drain() {
            entry.credit.close();
            entry.items.send(Delivery::Lost(reason.clone())).ok();
        }
    }
}

/// Cost of a frame with a payload of `bytes` bytes.
fn cost(bytes: usize) -> usize {
    FRAME_COST + bytes
}

/// Serialises one of our own types. This cannot fail: all map keys are strings.
fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests;
