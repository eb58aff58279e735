//! `read_archive` and `write_archive`: files of the container as tar streams.
//!
//! A thread in the container's root reads and writes the files, so that no link
//! leads out of the root. A short queue connects the thread to the stream and
//! blocks the faster side.

mod pack;
mod pipe;
mod unpack;

use std::sync::Arc;

use mimeo_agent_protocol::link::{Item, Receiver, Stream};
use mimeo_agent_protocol::message::{Failure, Reply, channel};

use crate::blocking::run_in_container;
use crate::machine::Machine;

/// Sends a path as an archive. A failure after the first byte is reported after the data.
pub(crate) async fn handle_read(machine: &Arc<Machine>, path: String, follow: bool, stream: Stream) {
    let sender = &stream.sender;
    let send_failure = |failed| sender.message(&Reply::Failed(failed));
    let root = match machine.container_root() {
        Ok(root) => root,
        Err(failed) => return send_failure(failed),
    };
    let (writer, mut chunks) = pipe::writer();
    let (found_sender, found_receiver) = tokio::sync::oneshot::channel();
    let work = run_in_container(root, move || pack::pack(&path, follow, found_sender, writer));
    let sending = async {
        // The sender is dropped unused when the path does not exist.
        if found_receiver.await.is_ok() {
            sender.message(&Reply::Done);
        }
        while let Some(chunk) = chunks.recv().await {
            if sender.data(channel::STDOUT, chunk).await.is_err() {
                return;
            }
        }
        // Dropped here, so that the thread ends when the host is gone.
        drop(chunks);
    };
    match tokio::join!(work, sending).0 {
        Ok(()) => drop(sender.data(channel::STDOUT, bytes::Bytes::new()).await),
        Err(failed) => send_failure(failed),
    }
}

/// Unpacks an archive into a directory.
pub(crate) async fn handle_write(machine: &Arc<Machine>, directory: String, stream: Stream) {
    let Stream { mut receiver, sender } = stream;
    let result = unpack(machine, directory, &mut receiver).await;
    sender.message(&match result {
        Ok(()) => Reply::Done,
        Err(failed) => Reply::Failed(failed),
    });
    // Dropping it resets the stream, so the reply must be sent before.
    drop(receiver);
}

async fn unpack(machine: &Machine, directory: String, receiver: &mut Receiver) -> Result<(), Failure> {
    let root = machine.container_root()?;
    let (reader, chunks) = pipe::reader();
    let work = run_in_container(root, move || unpack::unpack(&directory, reader));
    let receiving = receive(receiver, chunks);
    tokio::pin!(work, receiving);
    tokio::select! {
        biased;
        () = &mut receiving => work.await,
        result = &mut work => {
            if result.is_ok() {
                // The archive has ended before the stream: the remaining data is padding.
                receiving.await;
            }
            result
        }
    }
}

/// Forwards the host's data to the thread until its end.
async fn receive(receiver: &mut Receiver, chunks: pipe::ChunkSender) {
    loop {
        let chunk = match receiver.next().await {
            Ok(Some(Item::Data { channel: channel::STDIN, bytes })) if !bytes.is_empty() => Ok(bytes),
            Ok(Some(Item::Data { channel: channel::STDIN, .. }) | None) => return,
            Ok(Some(_)) => continue,
            Err(error) => Err(error),
        };
        let link_failed = chunk.is_err();
        // The thread may have ended.
        chunks.send(chunk).await.ok();
        if link_failed {
            return;
        }
    }
}
