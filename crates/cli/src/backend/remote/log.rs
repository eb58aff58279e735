//! The log of a machine of a manager: JSON documents, one in each line.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mimeo_engine::log::{LogLine, Output};
use mimeo_manager_api::{LogEntry, LogStream};
use reqwest::{Method, Response};

use super::RemoteBackend;
use super::error::RemoteError;
use super::http::encode;
use crate::backend::{LogReader, OnLine};
use crate::error::CliError;

/// A log of a manager.
pub(super) struct RemoteLog {
    remote: RemoteBackend,
    id: String,
    /// Where the part that was not read begins; `None` at the start of the log.
    offset: Option<String>,
    /// The answer that new lines come with.
    new: Option<Response>,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl RemoteLog {
    pub(super) fn new(remote: &RemoteBackend, id: &str) -> Self {
        let (remote, id) = (remote.clone(), id.to_owned());
        Self { remote, id, offset: None, new: None, partial: Vec::new() }
    }

    async fn request(&self, follow: bool) -> Result<Response, RemoteError> {
        let offset = self.offset.as_ref().map(|offset| format!("&offset={}", encode(offset)));
        let path =
            format!("/v1/containers/{}/logs?follow={follow}{}", encode(&self.id), offset.unwrap_or_default());
        self.remote.http.send(self.remote.http.request(Method::GET, &path)).await
    }

    /// Takes the complete lines.
    fn take_lines(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError> {
        let complete = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..complete).collect();
        for json in lines.split(|byte| *byte == b'\n').filter(|json| !json.is_empty()) {
            let entry: LogEntry =
                serde_json::from_slice(json).map_err(|error| self.remote.http.answer(error.to_string()))?;
            let (offset, line) = self.line(entry)?;
            on_line(line)?;
            self.offset = Some(offset);
        }
        Ok(())
    }

    fn line(&self, entry: LogEntry) -> Result<(String, LogLine), RemoteError> {
        let decode =
            |text: String| STANDARD.decode(text).map_err(|error| self.remote.http.answer(error.to_string()));
        let text = match (entry.text, entry.base64) {
            (Some(text), _) => text.into_bytes(),
            (None, encoded) => decode(encoded.unwrap_or_default())?,
        };
        let output = match entry.stream {
            LogStream::Stdout => Output::Stdout,
            LogStream::Stderr => Output::Stderr,
        };
        Ok((entry.offset, LogLine { time: entry.time, output, full: !entry.partial, text }))
    }

    /// Reads the next chunk; `false` at the end of the answer.
    async fn chunk(&mut self, response: &mut Response) -> Result<bool, RemoteError> {
        let chunk = response.chunk().await.map_err(|source| self.remote.http.unreachable(source))?;
        self.partial.extend_from_slice(chunk.as_deref().unwrap_or_default());
        Ok(chunk.is_some())
    }
}

#[async_trait]
impl LogReader for RemoteLog {
    async fn read(&mut self, on_line: &mut OnLine<'_>) -> Result<(), CliError> {
        let mut response = self.request(false).await?;
        while self.chunk(&mut response).await? {
            self.take_lines(on_line)?;
        }
        Ok(())
    }

    async fn follow(&mut self, _is_one_of_several: bool, on_line: &mut OnLine<'_>) -> Result<bool, CliError> {
        let mut response = match self.new.take() {
            Some(response) => response,
            None => self.request(true).await?,
        };
        let is_open = self.chunk(&mut response).await?;
        self.take_lines(on_line)?;
        self.new = Some(response);
        Ok(is_open)
    }
}
