//! The requests that mimeo's clients, such as the command line, send to a machine's supervisor. They use the same link
//! protocol as the supervisor and its guest.

mod client;

use mimeo_agent_protocol::message::Request;
use mimeo_net::PortMapping;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;
use crate::launch_request::StartFailureKind;
use crate::machine::{Changes, Exit, MachineName, Refusal};
use crate::snapshot::Kind;
pub use client::{ConnectError, ControlClient, ControlError, SavedSnapshot};

/// The socket's name in a machine's run directory.
pub(crate) const SOCKET: &str = "control.sock";

/// A request to a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Forward a request to the guest. The stream then carries the guest's replies and data.
    Guest {
        /// The request: exec, metrics, processes, archives, stat.
        request: Box<Request>,
    },
    /// Stop the container: the stop signal, then SIGKILL after a timeout. -> `done` when the machine has exited
    Stop {
        /// Seconds until SIGKILL; the machine's own setting if absent.
        timeout: Option<u32>,
        /// Why.
        #[serde(default)]
        purpose: StopPurpose,
    },
    /// Send the container a signal. -> `done`
    Signal {
        /// The signal's number on Linux.
        signal: i32,
    },
    /// Stop the vCPUs. -> `done`
    Pause,
    /// Resume the vCPUs. -> `done`
    Unpause,
    /// Attach this stream to the container's standard streams: data, [`Input`] messages, `exited` of the agent's
    /// replies.
    ///
    /// [`Input`]: mimeo_agent_protocol::message::Input
    Attach {
        /// Whether the client's data goes to the container's standard input.
        stdin: bool,
    },
    /// Change the machine's name, labels or restart policy. -> `done`
    Edit {
        /// What to change.
        changes: Changes,
    },
    /// Publish one more port of the machine. -> `published`, or `not_published`
    Publish {
        /// The port; without a host port, a free one is chosen.
        port: PortMapping,
    },
    /// Withdraw a published port. -> `published`, or `not_published`
    Unpublish {
        /// The port, with its host port.
        port: PortMapping,
    },
    /// Run the machine's health check now. -> `checked`
    CheckHealth,
    /// Resume the machine if the VMM has paused it because of a disk error, and the disk can be written again.
    /// -> `done`, or `refused` if it cannot
    RetryDisk,
    /// Take a snapshot of the machine, which continues to run. -> `saved`
    Snapshot {
        /// The snapshot's tag.
        tag: Option<MachineName>,
        /// The snapshot's kind.
        kind: Kind,
        /// The snapshot's id; random if absent. A request with the id of a snapshot that exists is answered with it.
        #[serde(default)]
        id: Option<SnapshotId>,
    },
    /// Wait until the machine has exited. -> `exited`
    Wait,
}

/// Why a machine is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopPurpose {
    /// A user wants it to stop: its restart policy does not apply until it is started again.
    #[default]
    User,
    /// The host is about to reboot: its restart policy applies after that.
    Reboot,
    /// It is started again at once: it is kept, also with `--rm`.
    Restart,
}

/// A supervisor's reply; a guest's replies are forwarded unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ControlReply {
    /// The request was carried out.
    Done,
    /// The snapshot was saved.
    Saved {
        /// Its id.
        snapshot: SnapshotId,
        /// How long the workload was paused, in microseconds.
        pause_micros: u64,
        /// Bytes of memory that the snapshot holds.
        memory_bytes: u64,
    },
    /// The port was published, or withdrawn.
    Published {
        /// The port, with its host port.
        port: PortMapping,
    },
    /// The port could not be published, or withdrawn.
    NotPublished {
        /// What kind of failure it is.
        kind: StartFailureKind,
        /// What failed, and why.
        message: String,
    },
    /// The health check was run.
    Checked {
        /// Why it failed; absent if it has succeeded.
        failure: Option<String>,
    },
    /// The machine's state does not allow the request.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The request failed.
    Failed {
        /// What failed, and why.
        message: String,
    },
    /// The machine has exited.
    Exited {
        /// How it exited.
        exit: Exit,
    },
}
