//! The files of a machine of this host.

use async_trait::async_trait;
use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{FileKind, Reply, Request, channel};
use mimeo_engine::act::files::Files;

use crate::backend::{ArchiveReader, ArchiveWriter, MachineFiles};
use crate::commands::guest_data::{check_reply, next_chunk, unexpected_reply};
use crate::error::CliError;

#[async_trait]
impl MachineFiles for Files {
    async fn stat(&self, path: &str) -> Result<(Option<FileKind>, Option<String>), CliError> {
        match self.guest(Request::Stat { path: path.to_owned() }).await?.0 {
            Reply::Found { kind, target } => Ok((kind, target)),
            reply => Err(unexpected_reply(&reply)),
        }
    }

    async fn read_archive(&self, path: &str) -> Result<Box<dyn ArchiveReader>, CliError> {
        let request = Request::ReadArchive { path: path.to_owned(), follow: true, content: false };
        Ok(Box::new(self.guest(request).await?.1))
    }

    async fn write_archive(&self, directory: &str) -> Result<Box<dyn ArchiveWriter>, CliError> {
        Ok(Box::new(self.stream(Request::WriteArchive { directory: directory.to_owned() })?))
    }

    fn omits_names(&self) -> bool {
        false
    }

    async fn close(self: Box<Self>) -> Result<(), CliError> {
        Ok(Files::close(*self).await?)
    }
}

#[async_trait]
impl ArchiveReader for Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        next_chunk(self).await
    }
}

#[async_trait]
impl ArchiveWriter for Stream {
    async fn write(&mut self, chunk: Bytes) -> bool {
        self.sender.data(channel::STDIN, chunk).await.is_ok()
    }

    async fn finish(mut self: Box<Self>) -> Result<(), CliError> {
        // End of input. If this fails, the guest's reply says why.
        self.sender.data(channel::STDIN, Bytes::new()).await.ok();
        check_reply(self.receiver.message::<Reply>().await?)
    }
}
