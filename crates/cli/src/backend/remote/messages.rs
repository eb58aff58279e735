//! The messages of the WebSockets `exec` and `attach`, and the documents of logs, files and clones.

use jiff::Timestamp;
use mimeo_manager_api::{Machine, Problem};
use serde::{Deserialize, Serialize};

/// What a client attaches to.
#[derive(Debug, Serialize)]
pub(super) struct AttachRequest {
    pub(super) stdin: bool,
    /// Start the machine first: its output waits for this client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<u16>,
}

/// A command, as `ExecRequest` of the API, with the size of its terminal.
#[derive(Debug, Serialize)]
pub(super) struct ExecStream {
    #[serde(flatten)]
    pub(super) request: mimeo_manager_api::ExecRequest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns: Option<u16>,
}

/// A text message of the client.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    Resize { rows: u16, columns: u16 },
    Signal { signal: i32 },
}

/// A text message of the manager.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerMessage {
    /// The process runs, or the client is attached to it.
    Started {
        #[serde(default)]
        pid: Option<u32>,
    },
    /// The process has exited.
    Exit {
        code: i32,
        #[serde(default)]
        error: Option<String>,
    },
    /// The request failed, or the connection to the machine was lost.
    Error { problem: Problem },
}

/// A line of a log.
#[derive(Debug, Deserialize)]
pub(super) struct LogEntry {
    /// Where the log goes on.
    pub(super) offset: String,
    pub(super) time: Timestamp,
    pub(super) stream: LogStream,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) base64: Option<String>,
    #[serde(default)]
    pub(super) partial: bool,
}

/// An output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogStream {
    Stdout,
    Stderr,
}

/// A file.
#[derive(Debug, Deserialize)]
pub(super) struct FileItem {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) target: Option<String>,
}

/// The result of an operation that starts clones.
#[derive(Debug, Deserialize)]
pub(super) struct CloneResults {
    pub(super) clones: Vec<CloneResult>,
    #[serde(default)]
    pub(super) pause_ms: Option<f64>,
}

/// What became of a requested clone.
#[derive(Debug, Deserialize)]
pub(super) struct CloneResult {
    #[serde(default)]
    pub(super) machine: Option<Machine>,
    #[serde(default)]
    pub(super) problem: Option<Problem>,
}

/// A snapshot that was taken.
#[derive(Debug, Deserialize)]
pub(super) struct TakenSnapshot {
    pub(super) pause_ms: Option<f64>,
    pub(super) memory_bytes: u64,
}
