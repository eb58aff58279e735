//! `read_archive` and `write_archive`: files of the container as tar streams.
//!
//! A thread in the container's root reads and writes the files, so that no link
//! leads out of the root. A short queue connects the thread to the stream and
//! blocks the faster side.

mod changes;
mod content;
mod copy;
mod layer;
mod pack;
pub(crate) mod pipe;
mod source;
mod unpack;

use std::sync::Arc;

use mimeo_agent_protocol::link::{Item, Receiver, Sender, Stream};
use mimeo_agent_protocol::message::{ChangesFormat, Failure, FailureKind, Reply, channel};

pub(crate) use pack::PackOptions;

use crate::blocking::{run_blocking, run_in_container};
use crate::failure::failure;
use crate::machine::Machine;
pub(crate) use copy::copy_content;

/// Sends a path as an archive. A failure after the first byte is reported after the data.
pub(crate) async fn handle_read(machine: &Arc<Machine>, path: String, options: PackOptions, stream: Stream) {
    let root = match machine.container_root() {
        Ok(root) => root,
        Err(failed) => return stream.sender.message(&Reply::Failed(failed)),
    };
    let (writer, chunks) = pipe::writer();
    let (found_sender, found_receiver) = tokio::sync::oneshot::channel();
    let work = run_in_container(root, move || pack::pack(&path, options, found_sender, writer));
    send(work, found_receiver, chunks, &stream.sender).await;
}

/// Sends what the container has changed of its image: a list, or an OCI layer.
pub(crate) async fn handle_changes(machine: &Arc<Machine>, format: ChangesFormat, stream: Stream) {
    // The agent's own mounts have the image and the changes, whatever the container has mounted over them.
    if let Err(failed) = machine.container_root() {
        return stream.sender.message(&Reply::Failed(failed));
    }
    if machine.is_system() {
        let failed =
            failure(FailureKind::Invalid, "a whole system has no image that its changes could be told from");
        return stream.sender.message(&Reply::Failed(failed));
    }
    let (mut writer, chunks) = pipe::writer();
    let (found_sender, found_receiver) = tokio::sync::oneshot::channel();
    let work = run_blocking(move || {
        // If the receiver is gone, the first write fails.
        found_sender.send(Reply::Done).ok();
        match format {
            ChangesFormat::List => changes::list(&mut writer)?,
            ChangesFormat::Layer => layer::pack(writer)?,
        }
        Ok(())
    });
    send(work, found_receiver, chunks, &stream.sender).await;
}

/// Sends the chunks that `work` makes, and its failure. `found`, the reply, comes before the first of them.
pub(crate) async fn send(
    work: impl Future<Output = Result<(), Failure>>,
    found: tokio::sync::oneshot::Receiver<Reply>,
    mut chunks: tokio::sync::mpsc::Receiver<bytes::Bytes>,
    sender: &Sender,
) {
    let send_failure = |failed| sender.message(&Reply::Failed(failed));
    let sending = async {
        // The sender is dropped unused when the path does not exist.
        if let Ok(reply) = found.await {
            sender.message(&reply);
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
