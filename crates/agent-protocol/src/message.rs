//! The host's requests to a guest's agent, and the agent's replies.
//!
//! Each request opens a stream. The first message back is a [`Reply`]. On a
//! process's stream, data ([`channel`]) and the host's [`Input`] follow, and
//! [`Reply::Exited`] is the last message. New fields are optional; a test pins
//! the wire format.

mod files;
mod identity;
mod machine;
mod metrics;
mod privileges;
mod process;
mod setup;

pub use files::{FileInfo, FileType, NewFile};
pub use identity::{Identity, IdentityStep, Step, StepOutcome};
pub use machine::{Address, Address6, Configure, Disk, DiskVolume, Interface, System, Volume};
pub use metrics::{Cpu, Filesystem, Load, Memory, Metrics, NetworkCounters, ProcessInfo};
pub use privileges::{Privileges, Resource, ResourceLimit};
pub use process::{ExitStatus, Process, TerminalSize};
pub use setup::{ContainerSetup, Tmpfs};

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

/// A request of the host. `->` names the reply when the request succeeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Give the machine its name, network and disks. Once, before `start`. -> `done`
    Configure(Box<Configure>),
    /// Mount a directory of the host in the guest. After `done` the stream carries
    /// raw FUSE messages on channel 0 in both directions, until the guest ends.
    Volume(Volume),
    /// Mount a volume that is on a disk of the guest. After `configure`, before `start`. -> `done`
    DiskVolume(DiskVolume),
    /// Start the container's own process. Once. -> `started`, data, `exited`
    Start(Process),
    /// Run an additional process in the container. -> `started`, data, `exited`
    Exec(Process),
    /// Send a signal to the container's own process. -> `done`
    Signal {
        /// Linux signal number.
        signal: i32,
    },
    /// Read the machine's metrics. -> `metrics`
    Metrics,
    /// List the container's processes. -> `processes`
    Processes,
    /// Send a GET request to a URL from inside the guest. -> `probed`
    Probe {
        /// `http://host:port/path`.
        url: String,
        /// Timeout in milliseconds.
        timeout_ms: u64,
    },
    /// Send a path of the container as a tar stream on [`channel::STDOUT`]. -> `done`, data
    ReadArchive {
        /// Absolute path in the container. The archive's entries begin with its last component.
        path: String,
        /// Follow `path` when it is a symbolic link.
        follow: bool,
        /// Send the content of the directory at that path, without what is mounted below it: the names begin with `.`.
        #[serde(default)]
        content: bool,
    },
    /// Send the container's root as a tar stream on [`channel::STDOUT`], without what is mounted in it. -> `done`, data
    ReadRoot,
    /// Send what the container has changed of its image on [`channel::STDOUT`]. -> `done`, data
    ReadChanges {
        /// The form of the data.
        format: ChangesFormat,
    },
    /// Unpack the tar stream on [`channel::STDIN`] into a directory. -> `done` at its end
    WriteArchive {
        /// Absolute path of an existing directory in the container.
        directory: String,
    },
    /// Look up the file type at a path of the container. -> `found`
    Stat {
        /// Absolute path in the container.
        path: String,
    },
    /// Look up a file. -> `file`
    StatFile {
        /// Absolute path in the container.
        path: String,
        /// Follow `path` when it is a symbolic link.
        #[serde(default)]
        follow: bool,
    },
    /// List some files of a directory, by name. -> `files`
    ListDirectory {
        /// Absolute path in the container.
        path: String,
        /// `next` of the reply before; absent: from the first file on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The number of files at most.
        limit: u32,
    },
    /// Send a regular file's content on [`channel::STDOUT`]; links are followed. -> `file`, data
    ReadFile {
        /// Absolute path in the container.
        path: String,
    },
    /// Create or replace a regular file with the data on [`channel::STDIN`]. It is visible only with all of its
    /// content. If the data does not end with the end of its channel, nothing is changed. -> `done` at its end
    WriteFile(NewFile),
    /// Create a directory. -> `done`
    MakeDirectory(NewFile),
    /// Remove a path; the last link of it is not followed. -> `done`
    RemovePath {
        /// Absolute path in the container.
        path: String,
        /// Remove a directory with everything in it; otherwise only an empty one.
        #[serde(default)]
        recursive: bool,
    },
    /// Set the wall clock. -> `done`
    SetClock {
        /// Nanoseconds since 1970.
        unix_nanos: u64,
    },
    /// Read the monotonic clock. -> `clock`
    Clock,
    /// Attach this stream to the container's own process: its output, its input
    /// and its exit status. The newest request has them. -> `started`, data, `exited`
    Attach,
    /// Do the slow part of a freeze in advance; the workload keeps running. -> `done`
    Prepare,
    /// Freeze the workload, so that a snapshot can be taken. -> `frozen`
    Freeze,
    /// Resume the workload. -> `done`
    Thaw {
        /// Nanoseconds since 1970 to set the wall clock to, just before resuming.
        #[serde(default)]
        unix_nanos: Option<u64>,
        /// Nanoseconds for which the machine was paused, to advance the wall clock
        /// by. An advance keeps the guest's own deviation from the host's clock.
        #[serde(default)]
        advance_nanos: u64,
        /// The guest's monotonic clock before the pause; without it the clock is taken to have stopped
        /// during the pause.
        #[serde(default)]
        since: Option<ClockMark>,
    },
    /// Apply the identity of another machine. A clone needs it before its workload
    /// resumes. -> `identified`
    Identify(Box<Identity>),
    /// Release a container that has ended, and its disks: the machine returns to its
    /// state before `configure`. -> `done`
    Reset,
    /// End all processes, flush, and power off. -> `done`, just before the power-off
    Shutdown,
}

/// The form in which a container's changes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangesFormat {
    /// Records: `A` (added), `C` (changed) or `D` (deleted), the absolute path, a zero byte.
    List,
    /// An OCI layer: a tar stream in which `.wh.` files stand for deleted paths.
    Layer,
}

/// A moment by two clocks. Whether the guest's clock advances while its vCPUs are paused depends on
/// the VMM, on KVM and on the guest's clocksource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMark {
    /// The guest's monotonic clock at that moment, in nanoseconds ([`Reply::Clock`]).
    pub guest_nanos: u64,
    /// Nanoseconds since that moment, by the host's clock.
    pub elapsed_nanos: u64,
}

/// A message of the host on a process's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Set the terminal's size.
    Resize(TerminalSize),
    /// Send a signal to this process.
    Signal {
        /// Linux signal number.
        signal: i32,
    },
}

/// A reply of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The request succeeded.
    Done,
    /// The request failed.
    Failed(Failure),
    /// The process runs.
    Started {
        /// Its PID in the container's namespace, where that is known.
        pid: u32,
    },
    /// The process ended. All of its output was sent before.
    Exited {
        /// How it ended.
        status: ExitStatus,
    },
    /// Reply to `clock`.
    Clock {
        /// Nanoseconds of the monotonic clock.
        nanos: u64,
    },
    /// Reply to `freeze`: every process of the workload is frozen.
    Frozen {},
    /// Reply to `identify`, also when a step has failed.
    Identified {
        /// All steps, in order.
        #[serde(rename = "lines")]
        steps: Vec<IdentityStep>,
    },
    /// Reply to `metrics`.
    Metrics(Box<Metrics>),
    /// Reply to `processes`.
    Processes {
        /// The processes, sorted by PID.
        processes: Vec<ProcessInfo>,
    },
    /// Reply to `probe`.
    Probed {
        /// The HTTP status code.
        status: u16,
    },
    /// Reply to `stat_file` and `read_file`.
    File(FileInfo),
    /// Reply to `list_directory`.
    Files {
        /// The files, sorted by the bytes of their names.
        files: Vec<FileInfo>,
        /// `after` of the next request; absent: there are no more files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// Reply to `stat`.
    Found {
        /// `None` when the path does not exist.
        kind: Option<FileKind>,
        /// Where the path leads if it is a symbolic link, even if nothing is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
}

/// The type of a file.
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

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of failure, for programs.
    pub kind: FailureKind,
    /// The failed operation and its cause, for people.
    pub message: String,
}

/// Kinds of failure that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program does not exist: exit code 127.
    CommandNotFound,
    /// The program cannot be executed: exit code 126.
    CommandNotExecutable,
    /// The image has no such user or group.
    UnknownUser,
    /// Something named in the request does not exist.
    NotFound,
    /// The machine's state does not allow the request.
    WrongState,
    /// The request is malformed.
    Invalid,
    /// A path leads through something that is no directory, or names something that is none where one is needed.
    NotADirectory,
    /// A path names a directory where a file is needed.
    IsADirectory,
    /// A path exists already.
    Exists,
    /// A directory is not empty.
    NotEmpty,
    /// The file's use is not permitted, also not to root.
    Forbidden,
    /// The file is used by the kernel, for example as a mount point.
    Busy,
    /// The filesystem is full.
    NoSpace,
    /// A system call failed.
    System,
    /// A kind that this side does not know.
    #[serde(other)]
    Unknown,
}
