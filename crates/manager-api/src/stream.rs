//! The messages of the WebSockets `exec` and `attach`.
//!
//! The client's first message is text: its request as JSON. Then both sides send binary messages with data and text
//! messages with JSON. The first byte of a binary message is its channel; the rest is data. An empty rest on
//! [`channel::STDIN`] is the end of the input.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// The subprotocol that the manager selects if the client offers it.
pub const SUBPROTOCOL: &str = "mimeo.v1";
/// What a subprotocol begins with whose rest is the client's token: pages in a browser cannot set headers.
pub const TOKEN_SUBPROTOCOL: &str = "mimeo.token.";

/// Channels of binary messages.
pub mod channel {
    /// Client to manager: the process's standard input.
    pub const STDIN: u8 = 0;
    /// Manager to client: standard output; all output when there is a terminal.
    pub const STDOUT: u8 = 1;
    /// Manager to client: standard error.
    pub const STDERR: u8 = 2;
}

/// A request to attach to the container's own process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttachRequest {
    /// Forward standard input, if the machine was created with `interactive`.
    pub stdin: bool,
    /// Start the machine first, unless it runs: the container's output waits for this client.
    pub start: bool,
    /// The terminal's lines, with `columns`; without effect if the process has no terminal.
    #[schema(minimum = 1)]
    pub rows: Option<u16>,
    /// The terminal's characters in a line, with `rows`.
    #[schema(minimum = 1)]
    pub columns: Option<u16>,
}

/// A text message of the client, after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Set the terminal's size.
    Resize {
        /// Its lines.
        rows: u16,
        /// Its characters in a line.
        columns: u16,
    },
    /// Send the process a signal.
    Signal {
        /// Linux's number of the signal.
        #[schema(minimum = 1, maximum = 64)]
        signal: i32,
    },
}

/// A text message of the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The process runs, or the client is attached to it.
    Started {
        /// The process's PID in the container; null after `attach`.
        pid: Option<u32>,
        /// Whether the process has a terminal.
        tty: bool,
    },
    /// The process has ended, and all of its output was sent. The manager closes the WebSocket.
    Exit {
        /// The exit code: 128 plus the signal's number for a signal.
        code: i32,
        /// Whether it was killed because its time was over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        timed_out: bool,
    },
    /// The request failed, or the connection to the machine was lost. The manager closes the WebSocket.
    Error {
        /// Why.
        problem: Problem,
    },
}
