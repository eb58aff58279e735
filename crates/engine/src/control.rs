//! What mimeo's command line and manager ask of a machine's monitor. The same
//! link carries it that joins the monitor to its guest.

mod client;

use mimeo_agent_protocol::message::Request;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;
use crate::machine::{Exit, MachineName, Refusal};
use crate::snapshot::Kind;
pub use client::{ConnectError, ControlClient, ControlError, SavedSnapshot};

/// The socket's name in a machine's run directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What a monitor is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Ask the guest. The stream goes on as the guest's own: its replies, its data.
    Guest {
        /// What to ask: exec, metrics, processes, archives, stat.
        request: Box<Request>,
    },
    /// End in good order: the stop signal, and SIGKILL after a while. -> `done` when it has ended
    Stop {
        /// Seconds until SIGKILL; the machine's own when absent.
        timeout: Option<u32>,
    },
    /// Send the container a signal. -> `done`
    Signal {
        /// Linux's number of it.
        signal: i32,
    },
    /// Stop the processors. -> `done`
    Pause,
    /// Let the processors go on. -> `done`
    Unpause,
    /// Keep a snapshot of the machine, which goes on. -> `saved`
    Snapshot {
        /// What to call it.
        tag: Option<MachineName>,
        /// What it is for.
        kind: Kind,
    },
    /// -> `exited` when the machine has ended
    Wait,
}

/// What a monitor answers; a guest's replies come as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ControlReply {
    /// It is done.
    Done,
    /// The snapshot is kept.
    Saved {
        /// Its id.
        snapshot: SnapshotId,
        /// How long the workload stood still, in microseconds.
        pause_micros: u64,
        /// Bytes of memory that it holds.
        memory_bytes: u64,
    },
    /// The machine's state does not allow it.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// It failed.
    Failed {
        /// How.
        message: String,
    },
    /// The machine has ended.
    Exited {
        /// How.
        exit: Exit,
    },
}
