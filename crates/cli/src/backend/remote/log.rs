//! The log of a machine of a manager.

use async_trait::async_trait;
use mimeo_engine::log::LogLine;
use reqwest::{Method, Response};

use super::RemoteBackend;
use super::http::encode;
use crate::backend::{LogReader, OnLine};
use crate::error::CliError;

/// The header with the offset after the last line of an answer.
const OFFSET_HEADER: &str = "x-log-offset";

/// A log of a manager.
pub(super) struct RemoteLog {
    remote: RemoteBackend,
    id: String,
    /// Where the part that was not read begins.
    offset: String,
    /// The answer that new lines come with.
    new: Option<Response>,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl RemoteLog {
    pub(super) fn new(remote: &RemoteBackend, id: &str) -> Self {
        let (remote, id) = (remote.clone(), id.to_owned());
        Self { remote, id, offset: "0".to_owned(), new: None, partial: Vec::new() }
    }

    async fn request(&self, follow: bool) -> Result<Response, CliError> {
        let (id, offset) = (encode(&self.id), encode(&self.offset));
        let path = format!("/v1/containers/{id}/logs?format=k8s&offset={offset}&follow={follow}");
        let http = &self.remote.http;
        Ok(http.send(http.request(Method::GET, &path)).await?)
    }

    /// Takes the complete lines.
    fn take_lines(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError> {
        let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..complete).collect();
        lines.split(|byte| *byte == b'\n').filter_map(LogLine::parse).try_for_each(on_line)
    }

    /// Reads the next chunk; `None` at the end of the answer.
    async fn chunk(&mut self, response: &mut Response) -> Result<Option<()>, CliError> {
        let chunk = response.chunk().await.map_err(|source| self.remote.http.unreachable(source))?;
        Ok(chunk.map(|chunk| self.partial.extend_from_slice(&chunk)))
    }
}

#[async_trait]
impl LogReader for RemoteLog {
    async fn read(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError> {
        let mut response = self.request(false).await?;
        let offset = response.headers().get(OFFSET_HEADER).and_then(|value| value.to_str().ok());
        let offset = offset.map(str::to_owned);
        while self.chunk(&mut response).await?.is_some() {
            self.take_lines(on_line)?;
        }
        self.offset =
            offset.ok_or_else(|| self.remote.http.answer(format!("no header {OFFSET_HEADER} of a log")))?;
        Ok(())
    }

    async fn follow(&mut self, _is_one_of_several: bool, on_line: &mut OnLine<'_>) -> Result<bool, CliError> {
        let mut response = match self.new.take() {
            Some(response) => response,
            None => self.request(true).await?,
        };
        let is_open = self.chunk(&mut response).await?.is_some();
        self.take_lines(on_line)?;
        self.new = Some(response);
        Ok(is_open)
    }
}
