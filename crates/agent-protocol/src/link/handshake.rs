//! The handshake that begins a session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::{FrameReader, Hello, Incoming, Link, LinkError, Shared, drive, encode};
use crate::PROTOCOL;
use crate::frame::{Frame, Kind, PREAMBLE};

/// A session that the other side began.
#[derive(Debug)]
pub struct Accepted<R, W> {
    /// Our side of it.
    pub link: Link,
    /// The other side's hello.
    pub hello: Hello,
    /// The streams that the other side opens.
    pub incoming: Incoming,
    /// Gives the channel back when the session is over.
    pub channel: oneshot::Receiver<(FrameReader<R>, W)>,
}

/// Begins a session, with the number `session`, on a channel. The host calls this and sends the
/// first hello. It skips bytes of an older session that are still in the channel.
///
/// # Errors
/// When the channel fails, or the other side has another protocol version.
pub async fn connect<R, W>(
    reader: R,
    mut writer: W,
    session: u32,
    name: &str,
) -> Result<(Link, Hello), LinkError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let ours = Hello { protocol: PROTOCOL, session, name: name.to_owned() };
    send_hello(&mut writer, &ours).await?;
    let mut reader = FrameReader::new(reader);
    let peer = loop {
        let hello = receive_hello(&mut reader).await?;
        // A reply to an older hello may still be in flight.
        if hello.session == session {
            break hello;
        }
    };
    check_protocol(&peer)?;
    // The accepting side opens no streams.
    let (link, _, _) = start_session(reader, writer, session);
    Ok((link, peer))
}

/// Waits for a session on a channel and answers it.
///
/// # Errors
/// When the channel fails, or the other side has another protocol version. In
/// the latter case our hello was sent, so that it knows ours.
pub async fn accept<R, W>(
    mut reader: FrameReader<R>,
    mut writer: W,
    name: &str,
) -> Result<Accepted<R, W>, LinkError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let peer = receive_hello(&mut reader).await?;
    let ours = Hello { protocol: PROTOCOL, session: peer.session, name: name.to_owned() };
    send_hello(&mut writer, &ours).await?;
    check_protocol(&peer)?;
    let (link, incoming, channel) = start_session(reader, writer, peer.session);
    Ok(Accepted { link, hello: peer, incoming, channel })
}

fn check_protocol(peer: &Hello) -> Result<(), LinkError> {
    if peer.protocol == PROTOCOL {
        return Ok(());
    }
    Err(LinkError::Protocol { name: peer.name.clone(), theirs: peer.protocol, ours: PROTOCOL })
}

async fn send_hello<W: AsyncWrite + Unpin>(writer: &mut W, hello: &Hello) -> Result<(), LinkError> {
    let payload = encode(hello);
    let frame = Frame { session: hello.session, stream: 0, kind: Kind::Hello, channel: 0, payload };
    let bytes = [&PREAMBLE[..], &frame.header(), &frame.payload].concat();
    writer.write_all(&bytes).await?;
    writer.flush().await?;
    Ok(())
}

async fn receive_hello<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Hello, LinkError> {
    loop {
        reader.preamble().await?;
        match reader.frame().await {
            Ok(frame) if frame.kind == Kind::Hello => {
                return serde_json::from_slice(&frame.payload)
                    .map_err(|_| LinkError::Violation("sent a hello that cannot be read"));
            }
            // Not a hello, although a preamble preceded it: look for the next preamble.
            Ok(_) | Err(LinkError::Restarted | LinkError::Frame(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

type Channel<R, W> = oneshot::Receiver<(FrameReader<R>, W)>;

fn start_session<R, W>(reader: FrameReader<R>, writer: W, session: u32) -> (Link, Incoming, Channel<R, W>)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (outgoing, frames) = mpsc::unbounded_channel();
    let (opened_sender, opened) = mpsc::unbounded_channel::<(Bytes, super::Stream)>();
    let (give_back, channel) = oneshot::channel();
    let shared = Shared::new(session, outgoing);
    let weak_shared = Arc::downgrade(&shared);
    let queue = drive::Queue {
        frames,
        write_budget: shared.write_budget.clone(),
        unwritten: shared.unwritten.clone(),
    };
    tokio::spawn(drive::drive(reader, writer, queue, weak_shared, opened_sender, give_back));
    (Link { shared: shared.clone() }, Incoming { opened, _session: shared }, channel)
}
