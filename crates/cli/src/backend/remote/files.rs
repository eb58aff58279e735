//! The files of a machine of a manager.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use mimeo_agent_protocol::message::FileKind;
use mimeo_manager_api::{FileItem, FileType};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method, Response};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::RemoteBackend;
use super::error::RemoteError;
use super::http::encode;
use crate::backend::{ArchiveReader, ArchiveWriter, MachineFiles};
use crate::error::CliError;

/// Chunks of an archive that wait to be sent, at most.
const QUEUE_CHUNKS: usize = 4;

/// The files of a machine. The manager opens them for each request.
pub(super) struct RemoteFiles {
    remote: RemoteBackend,
    /// The path of the machine's files in the API.
    base: String,
}

impl RemoteFiles {
    pub(super) fn new(remote: &RemoteBackend, id: &str) -> Self {
        Self { remote: remote.clone(), base: format!("/v1/containers/{}/files", encode(id)) }
    }

    /// Describes a file; `None` if there is none.
    async fn item(&self, path: &str, follow: bool) -> Result<Option<FileItem>, RemoteError> {
        let path = format!("{}/stat?follow={follow}&path={}", self.base, encode(path));
        match self.remote.http.item(&path).await {
            Ok(item) => Ok(Some(item)),
            Err(error) if error.code() == Some("path-not-found") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn kind(item: &FileItem) -> FileKind {
    if item.kind == FileType::Directory { FileKind::Directory } else { FileKind::File }
}

/// Where the symbolic link at `path` leads.
fn resolve(path: &str, target: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((directory, _)) if !target.starts_with('/') => format!("{directory}/{target}"),
        _ => target.to_owned(),
    }
}

#[async_trait]
impl MachineFiles for RemoteFiles {
    async fn stat(&self, path: &str) -> Result<(Option<FileKind>, Option<String>), CliError> {
        let target = self.item(path, false).await?.and_then(|item| item.target);
        let target = target.map(|target| resolve(path, &target));
        Ok((self.item(path, true).await?.map(|item| kind(&item)), target))
    }

    async fn read_archive(&self, path: &str) -> Result<Box<dyn ArchiveReader>, CliError> {
        let path = format!("{}?format=tar&path={}", self.base, encode(path));
        let http = &self.remote.http;
        let response = http.send(http.request(Method::GET, &path)).await?;
        Ok(Box::new(RemoteArchive { remote: self.remote.clone(), response }))
    }

    async fn write_archive(&self, directory: &str) -> Result<Box<dyn ArchiveWriter>, CliError> {
        let path = format!("{}?format=tar&path={}", self.base, encode(directory));
        let (chunks, queue) = mpsc::channel::<Bytes>(QUEUE_CHUNKS);
        let body = stream::unfold(queue, |mut queue| async {
            let chunk = queue.recv().await?;
            Some((Ok::<_, std::io::Error>(chunk), queue))
        });
        let remote = self.remote.clone();
        let sent = tokio::spawn(async move {
            let request = remote.http.request(Method::PUT, &path).header(CONTENT_TYPE, "application/x-tar");
            remote.http.send(request.body(Body::wrap_stream(body))).await.map(drop)
        });
        Ok(Box::new(Upload { chunks, sent }))
    }

    fn omits_names(&self) -> bool {
        true
    }

    async fn close(self: Box<Self>) -> Result<(), CliError> {
        Ok(())
    }
}

/// A tar stream from a manager.
struct RemoteArchive {
    remote: RemoteBackend,
    response: Response,
}

#[async_trait]
impl ArchiveReader for RemoteArchive {
    async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        let chunk = self.response.chunk().await;
        Ok(chunk.map_err(|source| self.remote.http.unreachable(source))?)
    }
}

/// A tar stream to a manager.
struct Upload {
    chunks: mpsc::Sender<Bytes>,
    sent: JoinHandle<Result<(), RemoteError>>,
}

#[async_trait]
impl ArchiveWriter for Upload {
    async fn write(&mut self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    async fn finish(self: Box<Self>) -> Result<(), CliError> {
        let Self { chunks, sent } = *self;
        // The end of the body.
        drop(chunks);
        Ok(sent.await??)
    }
}
