//! Single files of the container: their metadata, their content, and lists of them.
//!
//! A thread in the container's root uses the files, so that no link leads out of the root. The kernel's own
//! filesystems, such as /proc, are refused: their links lead through processes, and their files may never end.

mod change;
mod list;
mod lookup;
mod read;
mod write;

use std::sync::Arc;

use mimeo_agent_protocol::link::{Item, LinkError, Receiver, Stream};
use mimeo_agent_protocol::message::{Failure, NewFile, Reply, channel};

use crate::archive::pipe;
use crate::archive::send;
use crate::blocking::run_in_container;
use crate::machine::Machine;

/// Looks up a file.
pub(crate) async fn handle_stat(
    machine: &Arc<Machine>,
    path: String,
    follow: bool,
) -> Result<Reply, Failure> {
    run_in_container(machine.container_root()?, move || Ok(Reply::File(lookup::stat(&path, follow)?))).await
}

/// Lists files of a directory.
pub(crate) async fn handle_list(
    machine: &Arc<Machine>,
    path: String,
    after: Option<String>,
    limit: u32,
) -> Result<Reply, Failure> {
    run_in_container(machine.container_root()?, move || list::list(&path, after.as_deref(), limit)).await
}

/// Creates a directory.
pub(crate) async fn handle_make_directory(
    machine: &Arc<Machine>,
    directory: NewFile,
) -> Result<Reply, Failure> {
    run_in_container(machine.container_root()?, move || {
        change::make_directory(&directory).map(|()| Reply::Done)
    })
    .await
}

/// Removes a path.
pub(crate) async fn handle_remove(
    machine: &Arc<Machine>,
    path: String,
    recursive: bool,
) -> Result<Reply, Failure> {
    run_in_container(machine.container_root()?, move || {
        change::remove(&path, recursive).map(|()| Reply::Done)
    })
    .await
}

/// Sends a file. A failure after the first byte is reported after the data.
pub(crate) async fn handle_read(machine: &Arc<Machine>, path: String, stream: Stream) {
    let root = match machine.container_root() {
        Ok(root) => root,
        Err(failed) => return stream.sender.message(&Reply::Failed(failed)),
    };
    let (writer, chunks) = pipe::writer();
    let (found_sender, found_receiver) = tokio::sync::oneshot::channel();
    let work = run_in_container(root, move || read::read(&path, found_sender, writer));
    send(work, found_receiver, chunks, &stream.sender).await;
}

/// Creates or replaces a file.
pub(crate) async fn handle_write(machine: &Arc<Machine>, file: NewFile, stream: Stream) {
    let Stream { mut receiver, sender } = stream;
    let result = write(machine, file, &mut receiver).await;
    sender.message(&match result {
        Ok(()) => Reply::Done,
        Err(failed) => Reply::Failed(failed),
    });
    // Dropping it resets the stream, so the reply must be sent before.
    drop(receiver);
}

async fn write(machine: &Machine, file: NewFile, receiver: &mut Receiver) -> Result<(), Failure> {
    let root = machine.container_root()?;
    let (reader, chunks) = pipe::reader();
    let work = run_in_container(root, move || write::write(&file, reader));
    let receiving = receive(receiver, chunks);
    tokio::pin!(work, receiving);
    tokio::select! {
        biased;
        () = &mut receiving => work.await,
        result = &mut work => result,
    }
}

/// Forwards the host's data to the thread until its end. A stream that ends without it is an error.
async fn receive(receiver: &mut Receiver, chunks: pipe::ChunkSender) {
    loop {
        let chunk = match receiver.next().await {
            Ok(Some(Item::Data { channel: channel::STDIN, bytes })) if bytes.is_empty() => return,
            Ok(Some(Item::Data { channel: channel::STDIN, bytes })) => Ok(bytes),
            Ok(Some(_)) => continue,
            Ok(None) => Err(LinkError::Closed),
            Err(error) => Err(error),
        };
        let is_failed = chunk.is_err();
        // The thread may have ended.
        chunks.send(chunk).await.ok();
        if is_failed {
            return;
        }
    }
}
