//! The task that moves a session's frames.

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

/// Bytes gathered before they are written: one write carries many small frames.
const GATHER: usize = 128 * 1024;

type OpenedSender = mpsc::UnboundedSender<(Bytes, Stream)>;

/// What waits to be written, and how it is counted.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) frames: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) write_budget: Arc<Semaphore>,
    pub(super) unwritten: Arc<AtomicUsize>,
}

/// Moves frames until the session ends, then gives the channel back. Holds the
/// session only weakly: it ends when nobody has a part of it any more, after
/// all that was said has been written.
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
    // Nobody need wait for the channel.
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
        if frame.generation == shared.generation
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
            // Nothing ever comes: it ends when the hold is let go.
            resumed.await.ok();
        }
    }
}

/// What one write makes room for, and what it must be the last before.
#[derive(Default)]
struct Batch {
    frames: usize,
    charge: usize,
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
    // A frame for a stream that this side has left is late, not wrong.
    let Some(entry) = streams.get_mut(&frame.stream) else { return Ok(()) };
    if entry.received_end && matches!(frame.kind, Kind::Message | Kind::Data | Kind::End) {
        return Err(LinkError::Violation("goes on after its end"));
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
        Kind::Hello | Kind::Open => return Err(LinkError::Violation("said hello twice")),
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
        .map_err(|_| LinkError::Violation("opened a stream that nobody takes"))
}

fn queue(entry: &Entry, bytes: usize, item: Item) -> Result<(), LinkError> {
    let queued = entry.queued.fetch_add(cost(bytes), Ordering::Relaxed) + cost(bytes);
    if queued > MAX_QUEUED {
        return Err(LinkError::Violation("sends more than it was granted"));
    }
    entry.items.send(Delivery::Item(item)).ok();
    Ok(())
}

fn grant(entry: &Entry, payload: &[u8]) -> Result<(), LinkError> {
    let bytes: [u8; 4] = payload.try_into().map_err(|_| LinkError::Violation("granted nothing"))?;
    let granted = u32::from_le_bytes(bytes) as usize;
    if entry.credit.available_permits() + granted > super::WINDOW {
        return Err(LinkError::Violation("grants more than the window"));
    }
    entry.credit.add_permits(granted);
    Ok(())
}
