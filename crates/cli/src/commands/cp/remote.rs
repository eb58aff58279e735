//! The machine's side of a copy.

use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use mimeo_agent_protocol::message::FileKind;
use tokio::io::{AsyncReadExt, stdin};

use super::destination::Kind;
use super::pipe::{self, Tar};
use super::{CopySource, OpenMachine};
use crate::error::CliError;
use crate::output;

/// Bytes per read from standard input.
const CHUNK_BYTES: usize = 64 * 1024;

/// A path in a machine.
pub(super) struct Remote {
    machine: Rc<OpenMachine>,
    /// Absolute.
    pub(super) path: String,
    /// The owner of files that are copied there.
    pub(super) owner: (u64, u64),
}

impl Remote {
    pub(super) fn new(machine: Rc<OpenMachine>, path: String, user: &str) -> Self {
        Self { machine, path, owner: parse_owner(user) }
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
        let (kind, target) = self.machine.files.stat(&self.path).await?;
        let kind = kind.map(|kind| match kind {
            FileKind::Directory => Kind::Directory,
            _ => Kind::File,
        });
        Ok((kind, target))
    }

    /// The source of a copy from there.
    pub(super) async fn source(&self) -> Result<CopySource, CliError> {
        let (Some(kind), _) = self.stat().await? else {
            let (path, machine) = (&self.path, &self.machine.name);
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
        let omits_name = self.machine.files.omits_names() && self.stat().await?.0 == Some(Kind::Directory);
        let mut archive = self.machine.files.read_archive(&self.path).await?;
        let (sender, chunks) = pipe::queue();
        let producer = tokio::spawn(async move {
            while let Some(chunk) = archive.next().await? {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        let mut tar = Tar::new(chunks, producer);
        tar.omits_name = omits_name;
        Ok(tar)
    }

    /// The name of the directory there; `None` if it has none, or only its contents are wanted.
    pub(super) fn name(&self) -> Option<OsString> {
        let name = Path::new(&self.path).file_name().filter(|_| !self.path.ends_with("/."));
        name.map(ToOwned::to_owned)
    }

    /// Unpacks a tar stream into a directory there.
    pub(super) async fn unpack(&self, directory: &str, mut tar: Tar) -> Result<(), CliError> {
        let mut archive = self.machine.files.write_archive(directory).await?;
        while let Some(chunk) = tar.chunks.recv().await {
            if !archive.write(chunk).await {
                break;
            }
        }
        drop(tar.chunks);
        let produced = tar.producer.await?;
        let unpacked = archive.finish().await;
        produced.and(unpacked)
    }

    /// Unpacks the tar stream on standard input.
    pub(super) async fn unpack_stdin(&self) -> Result<(), CliError> {
        let mut archive = self.machine.files.write_archive(&self.path).await?;
        let mut from = stdin();
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if !archive.write(Bytes::copy_from_slice(&buffer[..count])).await {
                break;
            }
        }
        archive.finish().await
    }
}

/// Writes a tar stream to standard output.
pub(super) async fn write_to_stdout(mut tar: Tar) -> Result<(), CliError> {
    while let Some(chunk) = tar.chunks.recv().await {
        output::bytes(&chunk)?;
    }
    tar.producer.await?
}

/// The container's user and group if they are numbers, otherwise root.
fn parse_owner(user: &str) -> (u64, u64) {
    let (user, group) = user.split_once(':').unwrap_or((user, user));
    (user.parse().unwrap_or(0), group.parse().unwrap_or(0))
}
