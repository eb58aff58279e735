//! Attaching to a machine's container over a WebSocket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a client attaches to: the first message on the WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttachRequest {
    /// Pass the client's input to the container, if it was created with `interactive`.
    pub stdin: bool,
    /// Start the machine first; its output waits for this client.
    pub start: bool,
    /// The size of the client's terminal, for a container with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A text message of the client on the WebSocket of `exec` or `attach`. Binary messages are data: the first byte is the
/// channel (0: standard input), and no bytes after it are the end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientMessage {
    /// The terminal's size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// A signal for the process.
    Signal {
        /// Its number on Linux.
        #[schema(minimum = 1, maximum = 64)]
        signal: i32,
    },
}

/// A text message of the manager on the WebSocket of `exec` or `attach`. Binary messages are data: the first byte is the
/// channel (1: standard output, 2: standard error).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// The process runs, or the client is attached to it.
    Started {
        /// Its id in the guest; absent for the container's own process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// The process has exited, and with it, if it was the container's own, the machine. The last message.
    Exit {
        /// The exit code: 128 plus the signal's number for a signal.
        code: i32,
        /// What failed, if the container did not exit by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The request failed. The last message.
    Error {
        /// Why.
        problem: crate::Problem,
    },
}
