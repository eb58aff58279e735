//! What a host asks of a guest's agent, and what it answers.
//!
//! Each request opens a stream. Its first answer is a [`Reply`]; a process's
//! stream goes on with data ([`channel`]), [`Input`] from the host and at last
//! [`Reply::Exited`]. New fields are optional; a test pins the surface.

mod identity;
mod machine;
mod metrics;
mod process;

pub use identity::{Identity, IdentityLine, Line, Outcome};
pub use machine::{Address, Address6, Configure, Disk, Interface, Volume};
pub use metrics::{Cpu, Filesystem, Load, Memory, Metrics, NetworkCounters, ProcessInfo};
pub use process::{ExitStatus, Process, TerminalSize};

use serde::{Deserialize, Serialize};

/// Channels of a process's stream.
pub mod channel {
    /// Host to guest: the process's standard input.
    pub const STDIN: u8 = 0;
    /// Guest to host: standard output; all output when there is a terminal.
    pub const STDOUT: u8 = 1;
    /// Guest to host: standard error.
    pub const STDERR: u8 = 2;
}

/// What a host asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Give the machine its name, network and disks. Once, before `start`. -> `done`
    Configure(Box<Configure>),
    /// Serve a directory of the host in the guest. The stream then carries raw
    /// FUSE messages on channel 0 both ways, from `done` until the guest ends.
    Volume(Volume),
    /// Start the container's own process. Once. -> `started`, data, `exited`
    Start(Process),
    /// Run one more process in the container. -> `started`, data, `exited`
    Exec(Process),
    /// Send a signal to the container's own process. -> `done`
    Signal {
        /// Linux's number of it.
        signal: i32,
    },
    /// How the machine is. -> `metrics`
    Metrics,
    /// The container's processes. -> `processes`
    Processes,
    /// GET a URL inside the guest. -> `probed`
    Probe {
        /// `http://host:port/path`.
        url: String,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// A path of the container as a tar stream on [`channel::STDOUT`]. -> `done`, data
    ReadArchive {
        /// Absolute path in the container. The archive's entries begin with its last component.
        path: String,
        /// Follow `path` when it is a symbolic link.
        follow: bool,
    },
    /// Unpack the tar stream on [`channel::STDIN`] into a directory. -> `done` at its end
    WriteArchive {
        /// Absolute path of a directory that exists in the container.
        directory: String,
    },
    /// What stands at a path of the container. -> `found`
    Stat {
        /// Absolute path in the container.
        path: String,
    },
    /// Set the wall clock. -> `done`
    SetClock {
        /// Nanoseconds since 1970.
        unix_nanos: u64,
    },
    /// Read the monotonic clock. -> `clock`
    Clock,
    /// Take over the container's own streams in this session: its output, its
    /// input and its end. The newest to ask has them. -> `started`, data, `exited`
    Attach,
    /// Do beforehand what would keep a freeze waiting; the workload goes on. -> `done`
    Prepare,
    /// Stop the workload and hold still, so that a snapshot may be taken. -> `frozen`
    Freeze,
    /// Let the workload go on. -> `done`
    Thaw {
        /// Nanoseconds since 1970 to set the wall clock to, just before.
        #[serde(default)]
        unix_nanos: Option<u64>,
        /// Nanoseconds for which the machine stood still, to set the wall clock
        /// on by: right or wrong, it was its own.
        #[serde(default)]
        advance_nanos: u64,
        /// What the guest's clock was before that; without it the clock is taken to have stopped meanwhile.
        #[serde(default)]
        since: Option<ClockMark>,
    },
    /// Become another machine, which a copy must before its workload goes on. -> `identified`
    Identify(Box<Identity>),
    /// Let go of a container that has ended and of its disks: the machine is as it
    /// was before `configure`. -> `done`
    Reset,
    /// End everything, flush, and power off. -> `done`, just before the end
    Shutdown,
}

/// A moment by two clocks: whether the guest's goes on while its machine stands still depends on the VMM, on KVM and on the
/// guest's clocksource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMark {
    /// What the guest's monotonic clock was then, in nanoseconds ([`Reply::Clock`]).
    pub guest_nanos: u64,
    /// Nanoseconds that have passed since by the host's clock.
    pub elapsed_nanos: u64,
}

/// What the host sends on a process's stream, besides data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The terminal's new size.
    Resize(TerminalSize),
    /// Send a signal to this process.
    Signal {
        /// Linux's number of it.
        signal: i32,
    },
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// It could not be done.
    Failed(Failure),
    /// The process runs.
    Started {
        /// Its id in the container's namespace, where that is known.
        pid: u32,
    },
    /// The process ended; all of its output came before.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// Answer to `clock`.
    Clock {
        /// Nanoseconds of the monotonic clock.
        nanos: u64,
    },
    /// Answer to `freeze`: nothing of the workload runs.
    Frozen {},
    /// Answer to `identify`, whether all lines are done or one has failed.
    Identified {
        /// All lines, in order.
        lines: Vec<IdentityLine>,
    },
    /// Answer to `metrics`.
    Metrics(Box<Metrics>),
    /// Answer to `processes`.
    Processes {
        /// One each, by id.
        processes: Vec<ProcessInfo>,
    },
    /// Answer to `probe`.
    Probed {
        /// The HTTP status code.
        status: u16,
    },
    /// Answer to `stat`.
    Found {
        /// `None` when nothing stands there.
        kind: Option<FileKind>,
    },
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A directory, or a link to one.
    Directory,
    /// A regular file, or a link to one.
    File,
    /// Anything else.
    Other,
}

/// Why an agent could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for programs.
    pub kind: FailureKind,
    /// What failed, for people.
    pub message: String,
}

/// Kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program does not exist: exit code 127.
    CommandNotFound,
    /// The program cannot be executed: exit code 126.
    CommandNotExecutable,
    /// No such user or group in the image.
    UnknownUser,
    /// Something named in the request does not exist.
    NotFound,
    /// The request does not fit the machine's state.
    WrongState,
    /// The request makes no sense.
    Invalid,
    /// The system refused.
    System,
    /// A kind that this side does not know.
    #[serde(other)]
    Unknown,
}
