use bytes::Bytes;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::handshake::Accepted;
use super::*;
use crate::frame::MAX_DATA;

type Io = tokio::io::DuplexStream;
type Guest = Accepted<ReadHalf<Io>, WriteHalf<Io>>;

async fn connected_pair() -> (Link, Guest) {
    let (host, guest) = tokio::io::duplex(4096);
    let (host_in, host_out) = split(host);
    let (guest_in, guest_out) = split(guest);
    let accepting = tokio::spawn(accept(FrameReader::new(guest_in), guest_out, "guest"));
    let (link, hello) = connect(host_in, host_out, 7, "host").await.expect("connects");
    assert_eq!(hello, Hello { protocol: crate::PROTOCOL, session: 7, name: "guest".into() });
    (link, accepting.await.expect("joins").expect("accepts"))
}

#[tokio::test]
async fn a_request_is_answered() {
    let (link, mut guest) = connected_pair().await;
    let mut stream = link.open(&"ping").expect("opens");
    let (request, guest_stream) = guest.incoming.next().await.expect("a stream");
    assert_eq!(&request[..], b"\"ping\"");
    guest_stream.sender.message(&"pong");
    assert_eq!(stream.receiver.message::<String>().await.expect("an answer"), "pong");
    drop(guest_stream);
    assert_eq!(stream.receiver.next().await.expect("an end"), None);
    drop(stream);
    tokio::task::yield_now().await;
    assert!(link.shared.streams().is_empty());
}

#[tokio::test]
async fn a_slow_reader_does_not_block_other_streams() {
    let (link, mut guest) = connected_pair().await;
    let stuck = link.open(&"stuck").expect("opens");
    let (_, _never_read) = guest.incoming.next().await.expect("a stream");
    let flood = tokio::spawn(async move { stuck.sender.data(1, Bytes::from(vec![0; 10 * WINDOW])).await });
    let mut stream = link.open(&"ping").expect("opens");
    let (_, guest_stream) = guest.incoming.next().await.expect("a stream");
    guest_stream.sender.message(&1);
    assert_eq!(stream.receiver.message::<u32>().await.expect("an answer"), 1);
    assert!(!flood.is_finished(), "the flood waits for credit");
}

#[tokio::test]
async fn data_arrives_complete_and_in_order() {
    let (link, mut guest) = connected_pair().await;
    let stream = link.open(&()).expect("opens");
    let sent: Bytes = (0..3 * WINDOW + 17).map(|n| (n % 251) as u8).collect();
    let to_send = sent.clone();
    let sending = tokio::spawn(async move { stream.sender.data(2, to_send).await });
    let (_, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let Ok(Some(Item::Data { channel: 2, bytes })) = guest_stream.receiver.next().await else {
            panic!("data")
        };
        assert!(bytes.len() <= MAX_DATA);
        received.extend_from_slice(&bytes);
    }
    assert_eq!(received, sent);
    sending.await.expect("joins").expect("sends");
}

#[tokio::test]
async fn dropping_a_stream_resets_it_at_the_peer() {
    let (link, mut guest) = connected_pair().await;
    drop(link.open(&()).expect("opens"));
    let (_, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    assert_eq!(guest_stream.receiver.next().await.expect("an end"), None);
    guest_stream.receiver.wait_for_reset().await;
    assert!(guest_stream.sender.data(0, Bytes::from_static(&[0; 10])).await.is_err());
}

/// The bytes with which a host begins the session with this number.
fn hello(session: u32) -> Vec<u8> {
    let payload = encode(&Hello { protocol: crate::PROTOCOL, session, name: "host".into() });
    let frame = Frame { session, stream: 0, kind: Kind::Hello, channel: 0, payload };
    [&crate::frame::PREAMBLE[..], &frame.header(), &frame.payload].concat()
}

#[tokio::test]
async fn a_new_session_replaces_the_old_one_and_skips_its_leftovers() {
    let (mut host, guest) = tokio::io::duplex(1 << 20);
    let (guest_in, guest_out) = split(guest);
    host.write_all(b"leftovers of an older session").await.expect("writes");
    host.write_all(&hello(1)).await.expect("writes");
    let first = accept(FrameReader::new(guest_in), guest_out, "guest").await.expect("accepts");
    assert_eq!(first.hello.session, 1);
    host.write_all(&hello(2)).await.expect("writes");
    let (reader, writer) = first.channel.await.expect("the channel comes back");
    assert!(matches!(first.link.ended(), Some(LinkError::Restarted)));
    let second = accept(reader, writer, "guest").await.expect("accepts again");
    assert_eq!(second.hello.session, 2);
}

#[tokio::test]
async fn the_end_of_the_channel_ends_every_stream() {
    let (link, guest) = connected_pair().await;
    let mut stream = link.open(&()).expect("opens");
    drop(guest);
    let error = stream.receiver.next().await;
    assert!(error.is_err(), "{error:?}");
}

#[tokio::test]
async fn a_session_without_handles_ends_after_queued_frames_are_written() {
    let (link, mut guest) = connected_pair().await;
    let stream = link.open(&"request").expect("opens");
    stream.sender.message(&"more");
    drop(stream);
    drop(link);
    let (request, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    assert_eq!(&request[..], b"\"request\"");
    assert_eq!(guest_stream.receiver.message::<String>().await.expect("a message"), "more");
    drop(guest_stream);
    assert!(guest.incoming.next().await.is_none());
    assert!(matches!(guest.link.ended(), Some(LinkError::Closed)));
}

/// A link whose other side sends what the test writes, and reads nothing.
async fn link_to_scripted_peer() -> (Link, Io) {
    let (host, mut guest) = tokio::io::duplex(64 * 1024);
    guest.write_all(&hello(1)).await.expect("writes");
    let (host_in, host_out) = split(host);
    let (link, _) = connect(host_in, host_out, 1, "host").await.expect("connects");
    (link, guest)
}

fn frame(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let payload = Bytes::copy_from_slice(payload);
    let frame = Frame { session: 1, stream, kind, channel: 1, payload };
    [&frame.header()[..], &frame.payload].concat()
}

#[tokio::test]
async fn a_peer_that_grants_and_never_reads_blocks_the_sender() {
    let (link, mut guest) = link_to_scripted_peer().await;
    let stream = link.open(&()).expect("opens");
    let granting = tokio::spawn(async move {
        for _ in 0..1000 {
            let grant = frame(1, Kind::Credit, &(WINDOW as u32 / 4).to_le_bytes());
            if guest.write_all(&grant).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        guest
    });
    let chunk = Bytes::from(vec![0; 64 * 1024]);
    let flood = async {
        for _ in 0..1000 {
            stream.sender.data(1, chunk.clone()).await?;
        }
        Ok::<(), LinkError>(())
    };
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(1), flood).await;
    let waiting = MAX_UNWRITTEN - link.shared.write_budget.available_permits();
    assert!(!matches!(outcome, Ok(Ok(()))), "64 MiB went into memory");
    assert!(waiting <= MAX_UNWRITTEN, "{waiting} bytes wait");
    drop(granting.await);
}

#[tokio::test]
async fn empty_frames_are_charged() {
    let (link, mut guest) = link_to_scripted_peer().await;
    let mut stream = link.open(&()).expect("opens");
    let empty = frame(1, Kind::Data, &[]).repeat(1000);
    for _ in 0..100 {
        if guest.write_all(&empty).await.is_err() {
            break;
        }
    }
    link.closed().await;
    assert!(matches!(link.ended(), Some(LinkError::Violation("sent more than it was granted"))));
    drop(stream.receiver.next().await);
}

#[tokio::test]
async fn a_frame_after_the_end_is_a_violation() {
    let (link, mut guest) = link_to_scripted_peer().await;
    let _stream = link.open(&()).expect("opens");
    guest.write_all(&[frame(1, Kind::End, &[]), frame(1, Kind::End, &[])].concat()).await.expect("writes");
    link.closed().await;
    assert!(matches!(link.ended(), Some(LinkError::Violation("sent a frame after the end of its stream"))));
}

#[tokio::test]
async fn many_small_frames_are_allowed() {
    let (link, mut guest) = connected_pair().await;
    let stream = link.open(&()).expect("opens");
    let sending = tokio::spawn(async move {
        let stream = stream;
        for _ in 0..20_000 {
            stream.sender.data(1, Bytes::from_static(b"x")).await.expect("sends");
        }
        stream
    });
    let (_, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    for _ in 0..20_000 {
        assert!(matches!(guest_stream.receiver.next().await, Ok(Some(Item::Data { .. }))));
    }
    drop(sending.await.expect("joins"));
}

/// Whether a stream delivers nothing for a while.
async fn receives_nothing(stream: &mut Stream) -> bool {
    let quiet_time = std::time::Duration::from_millis(100);
    tokio::time::timeout(quiet_time, stream.receiver.next()).await.is_err()
}

#[tokio::test]
async fn nothing_is_written_while_writes_are_paused() {
    let (link, mut guest) = connected_pair().await;
    let before = link.open(&"before").expect("opens");
    before.sender.message(&1);
    let (_stream, pause) = link.open_and_pause_writes(&"freeze").expect("opens");
    before.sender.message(&2);
    before.sender.data(1, Bytes::from_static(b"3")).await.expect("queues");
    let _after = link.open(&"after").expect("opens");
    let (request, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    assert_eq!(&request[..], b"\"before\"");
    assert_eq!(guest_stream.receiver.message::<u32>().await.expect("a message"), 1);
    let (request, _freeze) = guest.incoming.next().await.expect("a stream");
    assert_eq!(&request[..], b"\"freeze\"");
    assert!(receives_nothing(&mut guest_stream).await, "frames were written in spite of the pause");
    pause.resume();
    assert_eq!(guest_stream.receiver.message::<u32>().await.expect("a message"), 2);
    let Ok(Some(Item::Data { bytes, .. })) = guest_stream.receiver.next().await else { panic!("data") };
    assert_eq!(&bytes[..], b"3");
    let (request, _) = guest.incoming.next().await.expect("a stream");
    assert_eq!(&request[..], b"\"after\"");
}

#[tokio::test]
async fn dropping_the_pause_resumes_writes_and_reads_never_stop() {
    let (link, mut guest) = connected_pair().await;
    let (mut stream, pause) = link.open_and_pause_writes(&"freeze").expect("opens");
    let (_, mut guest_stream) = guest.incoming.next().await.expect("a stream");
    guest_stream.sender.message(&"frozen");
    assert_eq!(stream.receiver.message::<String>().await.expect("an answer"), "frozen");
    stream.sender.message(&"late");
    assert!(receives_nothing(&mut guest_stream).await);
    drop(pause);
    assert_eq!(guest_stream.receiver.message::<String>().await.expect("a message"), "late");
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_pause() {
    let (link, guest) = connected_pair().await;
    let (_stream, _pause) = link.open_and_pause_writes(&"freeze").expect("opens");
    drop(guest);
    tokio::time::timeout(std::time::Duration::from_secs(1), link.closed()).await.expect("ends");
}
