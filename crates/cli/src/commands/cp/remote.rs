//! The machine's side of a copy.

use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{FileKind, Reply, Request, channel};
use mimeo_engine::act::files::Files;
use tokio::io::{AsyncReadExt, stdin};

use super::CopySource;
use super::destination::Kind;
use super::pipe::{self, Tar};
use crate::commands::guest_data::{check_reply, next_chunk, unexpected_reply};
use crate::error::CliError;
use crate::output;

/// Bytes per read from standard input.
const CHUNK_BYTES: usize = 64 * 1024;

/// A path in a machine.
pub(super) struct Remote {
    files: Rc<Files>,
    /// Absolute.
    pub(super) path: String,
    /// The owner of files that are copied there.
    pub(super) owner: (u64, u64),
}

impl Remote {
    pub(super) fn new(files: Rc<Files>, path: String, user: &str) -> Self {
        Self { files, path, owner: parse_owner(user) }
    }

    /// The kind of the file there, `None` if there is none, and the path that a copy to it is written to: a
    /// symbolic link is followed, as podman does, even if nothing is there.
    pub(super) async fn destination(&self) -> Result<(Option<Kind>, String), CliError> {
        let (kind, target) = self.stat().await?;
        let path = match kind {
            // The rules for a directory look at the path as it was written.
            Some(Kind::Directory) => None,
            Some(Kind::File) | None => target,
        };
        Ok((kind, path.unwrap_or_else(|| self.path.clone())))
    }

    async fn stat(&self) -> Result<(Option<Kind>, Option<String>), CliError> {
        match self.files.guest(Request::Stat { path: self.path.clone() }).await?.0 {
            Reply::Found { kind: Some(FileKind::Directory), target } => Ok((Some(Kind::Directory), target)),
            Reply::Found { kind: Some(_), target } => Ok((Some(Kind::File), target)),
            Reply::Found { kind: None, target } => Ok((None, target)),
            reply => Err(unexpected_reply(&reply)),
        }
    }

    /// The source of a copy from there.
    pub(super) async fn source(&self) -> Result<CopySource, CliError> {
        let (Some(kind), _) = self.stat().await? else {
            let (path, machine) = (&self.path, &self.files.machine().record.name);
            return Err(CliError::usage(format!(
                "{path:?} could not be found on container {machine}: no such file or directory"
            )));
        };
        let name = Path::new(&self.path).file_name();
        Ok(CopySource {
            kind,
            name: name.unwrap_or_default().to_owned(),
            // The root directory has no name: only its contents can be copied.
            contents: self.path.ends_with("/.") || name.is_none(),
        })
    }

    /// Requests the path as a tar stream.
    pub(super) async fn pack(&self) -> Result<Tar, CliError> {
        let request = Request::ReadArchive { path: self.path.clone(), follow: true, content: false };
        let (_, mut stream) = self.files.guest(request).await?;
        let (sender, chunks) = pipe::queue();
        let producer = tokio::spawn(async move {
            while let Some(chunk) = next_chunk(&mut stream).await? {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(Tar::new(chunks, producer))
    }

    /// Writes the path to standard output as a tar stream.
    pub(super) async fn pack_to_stdout(&self) -> Result<(), CliError> {
        let request = Request::ReadArchive { path: self.path.clone(), follow: true, content: false };
        let (_, mut stream) = self.files.guest(request).await?;
        while let Some(chunk) = next_chunk(&mut stream).await? {
            output::bytes(&chunk)?;
        }
        Ok(())
    }

    /// Unpacks a tar stream into a directory there.
    pub(super) async fn unpack(&self, directory: &str, mut tar: Tar) -> Result<(), CliError> {
        let Stream { sender, mut receiver } = self.open_write_stream(directory)?;
        while let Some(chunk) = tar.chunks.recv().await {
            if sender.data(channel::STDIN, chunk).await.is_err() {
                // The guest has failed; its reply says why.
                break;
            }
        }
        drop(tar.chunks);
        let produced = tar.producer.await?;
        // End of input. If this fails, the guest's reply says why.
        sender.data(channel::STDIN, Bytes::new()).await.ok();
        let reply = receiver.message::<Reply>().await;
        produced.and(check_reply(reply?))
    }

    /// Unpacks the tar stream on standard input.
    pub(super) async fn unpack_stdin(&self) -> Result<(), CliError> {
        let Stream { sender, mut receiver } = self.open_write_stream(&self.path)?;
        let mut from = stdin();
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if sender.data(channel::STDIN, Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                break;
            }
        }
        // End of input. If this fails, the guest's reply says why.
        sender.data(channel::STDIN, Bytes::new()).await.ok();
        check_reply(receiver.message::<Reply>().await?)
    }

    fn open_write_stream(&self, directory: &str) -> Result<Stream, CliError> {
        Ok(self.files.stream(Request::WriteArchive { directory: directory.to_owned() })?)
    }
}

/// The container's user and group if they are numbers, otherwise root.
fn parse_owner(user: &str) -> (u64, u64) {
    let (user, group) = user.split_once(':').unwrap_or((user, user));
    (user.parse().unwrap_or(0), group.parse().unwrap_or(0))
}
