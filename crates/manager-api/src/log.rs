//! What a machine's container has printed, and its guest's console.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// An output stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a container has printed. An answer has one in each of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// The place behind it: `?offset=` continues there. It means nothing to clients.
    pub offset: String,
    /// When it was printed.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The stream.
    pub stream: LogStream,
    /// The line, without its end, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The line as base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The line goes on in the next entry of the same stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Entries before this one were removed since the offset: the log keeps only the latest files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
}

/// A text message of the WebSocket `console`. Binary messages are the console's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConsoleMessage {
    /// Where the console's output was read up to. It follows the output.
    Offset {
        /// The place: `?offset=` continues there. It means nothing to clients.
        offset: String,
        /// Output before the last message was removed since the offset: only the latest is kept.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gap: bool,
    },
    /// There is no more output: the machine does not run, or `follow` is false. The manager closes the WebSocket.
    End,
    /// The console cannot be read. The manager closes the WebSocket.
    Error {
        /// Why.
        problem: Problem,
    },
}
