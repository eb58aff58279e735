//! A machine's state on the disk. Its monitor writes it; all others read.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mimeo_agent_protocol::message::{IdentityStep, Process};
use mimeo_net::{MacAddress, PortMapping, Subnet};
use serde::{Deserialize, Serialize};

use super::{MachineName, MachineSpec, Phase, ProcessIdentity, Requirements};
use crate::durable;
use crate::id::{MachineId, SnapshotId};
use crate::io_error::{IoContext, IoError};

/// The file's name in a machine's directory.
pub(crate) const FILE: &str = "machine.json";
/// The number of this shape.
const FORMAT: u32 = 1;

/// The boot method of a machine whose guest booted for it.
pub(crate) const BOOTED_COLD: &str = "cold";
/// The boot method of a machine that was restored from a boot snapshot.
pub(crate) const BOOTED_WARM: &str = "warm";
/// The boot method of a machine that was cloned from a snapshot of another.
pub(crate) const BOOTED_AS_CLONE: &str = "clone";

/// All that is known of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The number of this shape.
    pub format: u32,
    /// The machine's id.
    pub id: MachineId,
    /// Its name.
    pub name: MachineName,
    /// What was asked for.
    pub spec: MachineSpec,
    /// Where it is in its life.
    pub state: State,
    /// The process that owns it: mimeo's own, never the virtual machine monitor's.
    #[serde(rename = "monitor")]
    pub supervisor: ProcessIdentity,
    /// The virtual machine monitor's process.
    pub vmm: Option<ProcessIdentity>,
    /// The image that it runs.
    pub image: Option<ImageSummary>,
    /// What its container runs, with the settings of image and person together.
    #[serde(default)]
    pub process: Process,
    /// Its network.
    pub network: Option<NetworkRecord>,
    /// What runs its instructions, and why.
    pub accelerator: Option<String>,
    /// How it was booted: `cold`, or `warm` from a guest that had booted before.
    pub boot_method: Option<String>,
    /// Why it was booted cold.
    #[serde(default)]
    pub boot_reason: Option<String>,
    /// The snapshot that its memory began as, and still shares.
    #[serde(default)]
    pub origin: Option<SnapshotId>,
    /// What its guest runs on, as a snapshot of it will ask for.
    #[serde(default)]
    pub requires: Option<Requirements>,
    /// Files that its writable disk consists of, each over the one before.
    #[serde(default = "default_disk_layers")]
    pub disk_layers: u32,
    /// The number that tells it from all other copies: a UUID.
    #[serde(default)]
    #[serde(rename = "generation")]
    pub vm_generation: Option<String>,
    /// What made it itself, line by line.
    #[serde(default)]
    pub identity: Vec<IdentityStep>,
    /// The server of snapshots that it belongs to, and ends with.
    #[serde(default)]
    pub serve: Option<ServeReference>,
    /// It waits in a pool for somebody who wants it.
    #[serde(default)]
    pub waiting: bool,
    /// Whether it is well.
    pub health: Option<Health>,
    /// When what happened.
    pub times: Times,
}

/// A server of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeReference {
    /// Its id.
    pub id: String,
    /// Its process.
    pub process: ProcessIdentity,
}

fn default_disk_layers() -> u32 {
    1
}

/// Where a machine is in its life, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// Its container does not run yet.
    Creating,
    /// Its container runs.
    Running,
    /// Its processors stand still.
    Paused,
    /// It was told to end.
    Stopping,
    /// It is over.
    Exited(Exit),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The container's exit code, as a shell shows it: 128 and the signal's number for a signal.
    pub code: i32,
    /// The guest's kernel ended it for want of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// What went wrong, when it was not the container that ended.
    #[serde(default)]
    pub error: Option<String>,
}

/// The image that a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Its id.
    pub id: String,
    /// Its name when the machine was made.
    pub name: String,
}

/// A machine's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its place in the range of networks.
    pub subnet: Subnet,
    /// The machine's address.
    pub ip: Ipv4Addr,
    /// The gateway's.
    pub gateway: Ipv4Addr,
    /// The card's.
    pub mac: MacAddress,
    /// Where the host and others find it, when it is on a bridge.
    #[serde(default)]
    pub outer: Option<BridgeRecord>,
    /// Published ports; each has its host port once the machine runs.
    pub ports: Vec<PortMapping>,
}

/// A machine's addresses on the host's bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// The address.
    pub ip: Ipv4Addr,
    /// The IPv6 address, where the host speaks it.
    pub ip6: Option<Ipv6Addr>,
}

impl NetworkRecord {
    /// Where the host finds the machine.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.outer.map_or(self.ip, |outer| outer.ip)
    }

    /// Bits of the network part of that.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.outer.map_or(Subnet::PREFIX, |_| mimeo_net::bridged::BridgeAddress::PREFIX)
    }

    /// Where the machine's way out leads.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.outer.map_or(self.gateway, |_| mimeo_net::bridged::BridgeAddress::gateway())
    }
}

/// Whether a machine is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In a word.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// What the last failure said.
    pub last_failure: Option<String>,
}

/// Whether a machine is well, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It has not been well yet, and may still be.
    Starting,
    /// The last try succeeded.
    Healthy,
    /// Too many tries failed.
    Unhealthy,
}

impl std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// When what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Asked for.
    pub created: Timestamp,
    /// Its container began to run.
    pub started: Option<Timestamp>,
    /// It ended.
    pub finished: Option<Timestamp>,
    /// Milliseconds of each stage of its start, in order.
    #[serde(default)]
    pub stages: Vec<(String, u64)>,
}

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is none.
    #[error("{} does not exist", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is not one; it was set aside.
    #[error("{} was not readable ({reason}) and is kept as {}", path.display(), aside.display())]
    Corrupt {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer mimeo wrote it.
    #[error("{} has format {format}, this mimeo knows {FORMAT}: use the mimeo that made it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Record {
    /// A machine that has just been asked for, owned by this process.
    #[must_use]
    pub fn new(id: MachineId, name: MachineName, spec: MachineSpec) -> Self {
        Self {
            format: FORMAT,
            id,
            name,
            spec,
            state: State::Creating,
            supervisor: ProcessIdentity::own(),
            vmm: None,
            image: None,
            process: Process::default(),
            network: None,
            accelerator: None,
            boot_method: None,
            boot_reason: None,
            origin: None,
            requires: None,
            disk_layers: 1,
            vm_generation: None,
            identity: Vec::new(),
            serve: None,
            waiting: false,
            health: None,
            times: Times { created: Timestamp::now(), started: None, finished: None, stages: Vec::new() },
        }
    }

    /// Where the machine is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Creating => Phase::Creating,
            State::Running => Phase::Running,
            State::Paused => Phase::Paused,
            State::Stopping => Phase::Stopping,
            State::Exited(_) => Phase::Exited,
        }
    }

    /// What a process that joins the container begins with: its environment,
    /// directory and user, and nothing to run.
    #[must_use]
    pub fn surroundings(&self) -> Process {
        let Process { env, cwd, user, .. } = self.process.clone();
        Process { env, cwd, user, ..Process::default() }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Reads the state of the machine in `dir`. What cannot be parsed is set
    /// aside under another name, never deleted.
    ///
    /// # Errors
    /// When there is no readable state.
    pub fn load(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(FILE);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RecordError::Missing { path: path.clone() },
            _ => IoError { step: "read", path: path.clone(), source }.into(),
        })?;
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(record) => Ok(record),
            Err(error) => Err(reject_unparsable(&path, &bytes, &error)),
        }
    }

    /// Writes the state into `dir`, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses; the older state stands then.
    pub fn store(&self, dir: &Path) -> Result<(), RecordError> {
        let path = dir.join(FILE);
        Ok(durable::write_json(&path, self).at("write", &path)?)
    }
}

fn reject_unparsable(path: &Path, bytes: &[u8], error: &serde_json::Error) -> RecordError {
    #[derive(Deserialize)]
    struct Envelope {
        format: u32,
    }
    if let Ok(Envelope { format }) = serde_json::from_slice(bytes)
        && format > FORMAT
    {
        return RecordError::Newer { path: path.to_owned(), format };
    }
    match durable::set_aside(path) {
        Ok(aside) => RecordError::Corrupt { path: path.to_owned(), aside, reason: error.to_string() },
        Err(source) => IoError { step: "set aside", path: path.to_owned(), source }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let name = "web".parse().expect("a name");
        Record::new(MachineId::random(), name, MachineSpec::new("busybox"))
    }

    #[test]
    fn a_record_is_loaded_as_stored() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut record = record();
        record.state = State::Exited(Exit { code: 3, out_of_memory: false, error: None });
        record.store(dir.path()).expect("stored");
        assert_eq!(Record::load(dir.path()).expect("loaded"), record);
    }

    #[test]
    fn a_corrupt_record_is_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), b"{\"format\": 1, \"id\"").expect("written");
        let Err(RecordError::Corrupt { aside, .. }) = Record::load(dir.path()) else { panic!("corrupt") };
        assert_eq!(fs::read(aside).expect("kept"), b"{\"format\": 1, \"id\"");
        assert!(matches!(Record::load(dir.path()), Err(RecordError::Missing { .. })));
    }

    #[test]
    fn a_newer_record_is_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), b"{\"format\": 99}").expect("written");
        assert!(matches!(Record::load(dir.path()), Err(RecordError::Newer { format: 99, .. })));
        assert!(dir.path().join(FILE).exists());
    }
}
