//! Commands in a machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A command to run in a machine's container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments.
    #[schema(min_items = 1)]
    pub command: Vec<String>,
    /// Environment variables in addition to the container's.
    pub env: BTreeMap<String, String>,
    /// The working directory; by default the container's.
    pub workdir: Option<String>,
    /// `user[:group]`; by default the container's.
    pub user: Option<String>,
    /// Give the process every capability in its bounding set.
    pub privileged: bool,
    /// Give the process a terminal; only over a WebSocket.
    pub tty: bool,
    /// The terminal's lines, with `tty` and `columns`; 24 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub rows: Option<u16>,
    /// The terminal's characters in a line, with `tty` and `rows`; 80 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub columns: Option<u16>,
    /// Forward standard input; only over a WebSocket.
    pub interactive: bool,
    /// The process's standard input, in the encoding of `encoding`; not over a WebSocket.
    pub stdin: Option<String>,
    /// Seconds after which the process is killed.
    #[schema(minimum = 0.001, maximum = 86400)]
    pub timeout_seconds: Option<f64>,
    /// How `stdin`, `stdout` and `stderr` are encoded.
    pub encoding: Encoding,
}

/// How bytes are represented in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As text; bytes that are no UTF-8 are replaced by U+FFFD.
    #[default]
    Utf8,
    /// As base64.
    Base64,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Its exit code: 128 plus the signal's number for a signal.
    pub exit_code: i32,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// Its standard output, at most 1 MiB of it.
    pub stdout: String,
    /// Its standard error, at most 1 MiB of it.
    pub stderr: String,
    /// Bytes that it wrote to standard output.
    pub stdout_bytes: u64,
    /// Bytes that it wrote to standard error.
    pub stderr_bytes: u64,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}
