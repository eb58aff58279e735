//! The complete path: a link, its stream, the threads.

use std::fs;
use std::time::Duration;

use mimeo_agent_protocol::link::{FrameReader, Incoming, Item, Link, Stream, accept, connect};
use mimeo_agent_protocol::message::{Failure, FailureKind, Reply, Request, Volume};
use tempfile::TempDir;
use tokio::io::split;
use tokio::time::timeout;

use super::client::{message, u32_at, u32s};
use crate::VolumeSpec;
use crate::inodes::ROOT;
use crate::limits::MAX_TRANSFER;
use crate::wire::opcode;
use crate::{VolumeError, VolumeServer, serve};

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

async fn pair() -> (Link, Link, Incoming) {
    let (host, guest) = tokio::io::duplex(4096);
    let ((host_in, host_out), (guest_in, guest_out)) = (split(host), split(guest));
    let accepting = tokio::spawn(accept(FrameReader::new(guest_in), guest_out, "guest"));
    let (link, _) = connect(host_in, host_out, 1, "host").await.expect("connects");
    let accepted = accepting.await.expect("joins").expect("accepts");
    (link, accepted.link, accepted.incoming)
}

fn spec(directory: &TempDir) -> VolumeSpec {
    fs::write(directory.path().join("file"), vec![7; 3_000_000]).expect("file");
    VolumeSpec { host: directory.path().into(), guest: "/data".into(), read_only: false }
}

/// Serves a volume; returns its server and the guest's end of its stream.
async fn serve_and_mount(
    link: &Link,
    incoming: &mut Incoming,
    directory: &TempDir,
) -> (VolumeServer, Stream) {
    let (link, spec) = (link.clone(), spec(directory));
    let serving = tokio::spawn(async move { serve(&link, &spec, 1).await });
    let (request, mut stream) = incoming.next().await.expect("a request");
    match serde_json::from_slice(&request).expect("a message") {
        Request::Volume(Volume { target, read_only: false, file: None, .. }) => assert_eq!(target, "/data"),
        other => panic!("{other:?}"),
    }
    // The agent of a single-file volume sends a lookup before it reports the mount.
    send_request(&stream, opcode::LOOKUP, ROOT, b"file\0").await;
    assert_eq!(receive_reply(&mut stream).await.len(), 16 + 128);
    stream.sender.message(&Reply::Done);
    (serving.await.expect("joins").expect("served"), stream)
}

async fn send_request(stream: &Stream, code: u32, node: u64, body: &[u8]) {
    stream.sender.data(0, message(code, node, body).into()).await.expect("sent");
}

async fn receive_reply(stream: &mut Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 16 || bytes.len() < u32_at(&bytes, 0) as usize {
        match timeout(REPLY_TIMEOUT, stream.receiver.next()).await.expect("in time").expect("no error") {
            Some(Item::Data { channel: 0, bytes: chunk }) => bytes.extend_from_slice(&chunk),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

#[tokio::test]
async fn files_are_read_over_a_link() {
    let (link, _guest, mut incoming) = pair().await;
    let directory = TempDir::new().expect("directory");
    let (servers, mut stream) = serve_and_mount(&link, &mut incoming, &directory).await;
    send_request(&stream, opcode::OPEN, 2, &u32s(&[0, 0])).await;
    let handle = receive_reply(&mut stream).await[16..24].to_vec();
    let read = [handle, u32s(&[0, 0, MAX_TRANSFER as u32, 0]), vec![0; 16]].concat();
    send_request(&stream, opcode::READ, 2, &read).await;
    assert_eq!(receive_reply(&mut stream).await.len(), 16 + MAX_TRANSFER);
    drop(servers);
    let end = timeout(REPLY_TIMEOUT, stream.receiver.wait_for_reset()).await;
    end.expect("the end of the server ends the stream");
}

#[tokio::test]
async fn an_invalid_message_ends_the_volume() {
    let (link, _guest, mut incoming) = pair().await;
    let directory = TempDir::new().expect("directory");
    let (_servers, mut stream) = serve_and_mount(&link, &mut incoming, &directory).await;
    stream.sender.data(0, vec![0xff; 100].into()).await.expect("sent");
    timeout(REPLY_TIMEOUT, stream.receiver.wait_for_reset()).await.expect("it ends");
    assert!(link.ended().is_none(), "the link continues");
}

/// A guest that sends requests and never reads a reply blocks only itself.
#[tokio::test]
async fn a_guest_that_reads_no_replies_is_blocked() {
    let (link, _guest, mut incoming) = pair().await;
    let directory = TempDir::new().expect("directory");
    let (_servers, stream) = serve_and_mount(&link, &mut incoming, &directory).await;
    let flood = async {
        loop {
            send_request(&stream, opcode::WRITE, 2, &[0; 100_000]).await;
            send_request(&stream, opcode::READLINK, 2, &[0; 100_000]).await;
        }
    };
    // Error replies are small: many fit into the window before it is full.
    timeout(Duration::from_millis(300), flood).await.expect_err("it blocks, or is still sending");
    assert!(link.ended().is_none());
}

#[tokio::test]
async fn a_failure_in_the_guest_names_the_path() {
    let (link, _guest, mut incoming) = pair().await;
    let directory = TempDir::new().expect("directory");
    let spec = spec(&directory);
    let serving = tokio::spawn(async move { serve(&link, &spec, 1).await });
    let (_, stream) = incoming.next().await.expect("a request");
    let failure = Failure { kind: FailureKind::System, message: "no fuse".into() };
    stream.sender.message(&Reply::Failed(failure.clone()));
    match serving.await.expect("joins") {
        Err(VolumeError::Guest { path, source }) => {
            assert_eq!((path.as_path(), source), (directory.path(), failure));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_or_special_path_is_refused() {
    let (link, _guest, _incoming) = pair().await;
    for path in ["/nowhere/at/all", "/dev/null"] {
        let spec = VolumeSpec { host: path.into(), guest: "/x".into(), read_only: false };
        let error = serve(&link, &spec, 1).await.expect_err("not served");
        assert!(matches!(error, VolumeError::Serve { .. }), "{error:?}");
    }
}
