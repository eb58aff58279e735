//! What a supervisor reports about the start of a machine.

use serde::{Deserialize, Serialize};

use crate::id::MachineId;
use crate::machine::{MachineName, Record};

/// podman's exit code when podman itself fails.
const FAILED: i32 = 125;

/// A machine that was started or created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Its id.
    pub id: MachineId,
    /// Its name.
    pub name: MachineName,
    /// PID of its supervisor; a machine that was only created has none, and this is the process that created it.
    pub pid: u32,
    /// Duration of each stage of its start in milliseconds, in order.
    pub stages: Vec<(String, u64)>,
}

impl MachineInfo {
    /// Describes the machine of a record.
    #[must_use]
    pub fn new(record: &Record) -> Self {
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            pid: record.supervisor.pid,
            stages: record.times.stages.clone(),
        }
    }
}

/// How far the pull of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// What is being done.
    pub step: PullStep,
    /// Bytes done in this step.
    pub done: u64,
    /// Bytes of this step, as far as they are known.
    pub total: u64,
}

/// A step of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullStep {
    /// The layers are downloaded. The bytes are compressed.
    Downloading,
    /// The layers' entries are read. The bytes are compressed.
    Unpacking,
    /// The filesystem is written.
    Writing,
    /// The image is in the store.
    Stored,
}

/// Why a machine was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// What failed, and why, for people.
    pub message: String,
    /// The exit code that podman uses for such a failure.
    #[serde(default)]
    pub code: i32,
    /// What kind of failure it is, for programs.
    #[serde(default)]
    pub kind: StartFailureKind,
    /// The stage that failed.
    #[serde(default)]
    pub stage: Option<String>,
    /// The console's last lines, if the guest was launched and they may show the cause.
    #[serde(default)]
    pub console: Vec<String>,
}

impl StartFailure {
    /// A failure of which only the message is known.
    pub(crate) fn from_message(message: String) -> Self {
        let (kind, stage, console) = (StartFailureKind::Other, None, Vec::new());
        Self { message, code: FAILED, kind, stage, console }
    }
}

/// The kind of a failed start. The names are stable: programs decide by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailureKind {
    /// The request itself is wrong, on any host or on this one: another one is needed.
    Invalid,
    /// Another machine has the name.
    NameTaken,
    /// There is a machine with the requested id.
    IdTaken,
    /// Another process has started the machine, or removed it.
    Supervised,
    /// The image exists neither in the store nor in its registry, or was removed.
    ImageNotFound,
    /// The registry requires a login, or another one.
    ImageUnauthorized,
    /// The image's registry cannot be reached, or breaks the connection.
    RegistryUnreachable,
    /// The image is not for this platform, or is damaged.
    ImageUnusable,
    /// The snapshot is missing, damaged, or not for this host.
    SnapshotUnusable,
    /// There is not enough memory.
    InsufficientMemory,
    /// There is no space on a disk of the host.
    NoSpace,
    /// A port of the host is in use.
    PortInUse,
    /// Another machine uses a volume.
    VolumeInUse,
    /// All subnets are in use.
    NoAddress,
    /// The host lacks something that the machine needs: KVM, a program, a privilege, the kernel of `setup`.
    Unsupported,
    /// The guest did not answer in time, or its virtual machine ended before it did.
    GuestSilent,
    /// The command does not exist in the image.
    CommandNotFound,
    /// The command cannot be executed.
    CommandNotExecutable,
    /// The user does not exist in the image.
    UnknownUser,
    /// The guest refused its configuration or its identity.
    GuestRefused,
    /// The start was cancelled; everything was undone.
    Cancelled,
    /// The supervisor was killed.
    SupervisorGone,
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}
