//! The task that reads and writes a session's frames.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Delivery, Entry, FrameReader, Item, LinkError, MAX_QUEUED, MAX_UNWRITTEN_FRAMES, Outgoing, Shared,
    Stream, cost,
};
use crate::frame::{Frame, Kind};

/// Bytes that are gathered for one write, so that many small frames take one system call.
const GATHER: usize = 128 * 1024;

type OpenedSender = mpsc::UnboundedSender<(Bytes, Stream)>;

/// The frames to write, and the counters that bound them.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) frames: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) write_budget: Arc<Semaphore>,
    pub(super) unwritten: Arc<AtomicUsize>,
}

/// Reads and writes frames until the session ends, then gives the channel back.
/// It holds only a weak reference to the session: the session ends when its last
/// handle is dropped and all queued frames are written.
pub(super) async fn drive<R, W>(
    mut reader: FrameReader<R>,
    mut writer: W,
    mut queue: Queue,
    shared: Weak<Shared>,
    opened: OpenedSender,
    give_back: oneshot::Sender<(FrameReader<R>, W)>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let error = tokio::select! {
        error = read(&mut reader, &shared, &opened) => error,
        error = write(&mut writer, &mut queue) => error,
    };
    if let Some(shared) = shared.upgrade() {
        shared.close(&error);
    }
    // The receiver may be gone: the connecting side does not reuse the channel.
    give_back.send((reader, writer)).ok();
}

async fn read<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    shared: &Weak<Shared>,
    opened: &OpenedSender,
) -> LinkError {
    loop {
        let frame = match reader.frame().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let Some(shared) = shared.upgrade() else { return LinkError::Closed };
        if shared.unwritten.load(Ordering::Relaxed) > MAX_UNWRITTEN_FRAMES {
            return LinkError::Violation("does not read what it is sent");
        }
        if frame.session == shared.session
            && let Err(error) = deliver(frame, &shared, opened)
        {
            return error;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, queue: &mut Queue) -> LinkError {
    let mut gathered = Vec::with_capacity(4096);
    loop {
        let Some(frame) = queue.frames.recv().await else { return LinkError::Closed };
        let mut batch = Batch::default();
        batch.append(&mut gathered, frame);
        while gathered.len() < GATHER
            && batch.resumed.is_none()
            && let Ok(frame) = queue.frames.try_recv()
        {
            batch.append(&mut gathered, frame);
        }
        if let Err(error) = writer.write_all(&gathered).await {
            return error.into();
        }
        if let Err(error) = writer.flush().await {
            return error.into();
        }
        gathered.clear();
        queue.write_budget.add_permits(batch.charge);
        queue.unwritten.fetch_sub(batch.frames, Ordering::Relaxed);
        if let Some(resumed) = batch.resumed {
            // No value is ever sent: this fails when the other end is dropped, which resumes writing.
            resumed.await.ok();
        }
    }
}

/// The frames of one write.
#[derive(Default)]
struct Batch {
    frames: usize,
    /// The part of the write budget that the write gives back.
    charge: usize,
    /// Closed when the next write may begin.
    resumed: Option<oneshot::Receiver<Infallible>>,
}

impl Batch {
    fn append(&mut self, gathered: &mut Vec<u8>, Outgoing { frame, charge, resumed }: Outgoing) {
        gathered.extend_from_slice(&frame.header());
        gathered.extend_from_slice(&frame.payload);
        self.frames += 1;
        self.charge += charge;
        self.resumed = resumed;
    }
}

fn deliver(frame: Frame, shared: &Arc<Shared>, opened: &OpenedSender) -> Result<(), LinkError> {
    if frame.kind == Kind::Open {
        return open(frame, shared, opened);
    }
    let mut streams = shared.streams();
    // This side has dropped the stream: the frame is late, which is no violation.
    let Some(entry) = streams.get_mut(&frame.stream) else { return Ok(()) };
    if entry.received_end && matches!(frame.kind, Kind::Message | Kind::Data | Kind::End) {
        return Err(LinkError::Violation("sent a frame after the end of its stream"));
    }
    let id = frame.stream;
    match frame.kind {
        Kind::Message => queue(entry, frame.payload.len(), Item::Message(frame.payload))?,
        Kind::Data => {
            let item = Item::Data { channel: frame.channel, bytes: frame.payload.clone() };
            queue(entry, frame.payload.len(), item)?;
        }
        Kind::Credit => grant(entry, &frame.payload)?,
        Kind::End => {
            entry.items.send(Delivery::End).ok();
            entry.received_end = true;
        }
        Kind::Reset => {
            entry.items.send(Delivery::Reset).ok();
            entry.credit.close();
            entry.sent_end = true;
            entry.received_end = true;
        }
        Kind::Hello | Kind::Open => return Err(LinkError::Violation("sent a second hello")),
    }
    if entry.sent_end && entry.received_end {
        streams.remove(&id);
    }
    Ok(())
}

fn open(frame: Frame, shared: &Arc<Shared>, opened: &OpenedSender) -> Result<(), LinkError> {
    if shared.streams().contains_key(&frame.stream) {
        return Err(LinkError::Violation("opened a stream twice"));
    }
    let stream = shared.register(frame.stream)?;
    opened
        .send((frame.payload, stream))
        .map_err(|_| LinkError::Violation("opened a stream that this side does not accept"))
}

fn queue(entry: &Entry, bytes: usize, item: Item) -> Result<(), LinkError> {
    let queued = entry.queued.fetch_add(cost(bytes), Ordering::Relaxed) + cost(bytes);
    if queued > MAX_QUEUED {
        return Err(LinkError::Violation("sent more than it was granted"));
    }
    entry.items.send(Delivery::Item(item)).ok();
    Ok(())
}

fn grant(entry: &Entry, payload: &[u8]) -> Result<(), LinkError> {
    let bytes: [u8; 4] =
        payload.try_into().map_err(|_| LinkError::Violation("sent a malformed grant of credit"))?;
    let granted = u32::from_le_bytes(bytes) as usize;
    if entry.credit.available_permits() + granted > super::WINDOW {
        return Err(LinkError::Violation("granted more credit than the window"));
    }
    entry.credit.add_permits(granted);
    Ok(())
}
