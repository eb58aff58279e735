//! A machine's record on disk, machine.json. Its supervisor writes it. If the supervisor died, the sweep of the next command
//! marks the machine as crashed. All others only read it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mimeo_agent_protocol::message::{IdentityStep, Process};
use mimeo_net::{MacAddress, PortMapping, Subnet};
use serde::{Deserialize, Serialize};

use super::{MachineName, MachineSpec, Phase, ProcessIdentity, Requirements, VolumeDisk};
use crate::durable;
use crate::id::{MachineId, SnapshotId};
use crate::io_error::{IoContext, IoError};
use crate::volumes::VolumeName;

/// The name of the file in a machine's directory.
pub(crate) const FILE: &str = "machine.json";
/// The version of the record's format.
const FORMAT: u32 = 1;

/// The boot method of a machine whose guest was booted for it.
pub(crate) const BOOTED_COLD: &str = "cold";
/// The boot method of a machine that was restored from a boot snapshot.
pub(crate) const BOOTED_WARM: &str = "warm";
/// The boot method of a machine that was cloned from a snapshot of another.
pub(crate) const BOOTED_AS_CLONE: &str = "clone";

/// A machine's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the record's format.
    pub format: u32,
    /// The machine's id.
    pub id: MachineId,
    /// The machine's name.
    pub name: MachineName,
    /// The machine as it was requested.
    pub spec: MachineSpec,
    /// The machine's state.
    pub state: State,
    /// The supervisor's process.
    #[serde(rename = "monitor")]
    pub supervisor: ProcessIdentity,
    /// The `mimeo` that started the machine and attached to its terminal, if that is another process.
    #[serde(default)]
    pub client: Option<ProcessIdentity>,
    /// The VMM's process.
    pub vmm: Option<ProcessIdentity>,
    /// The image that the machine runs.
    pub image: Option<ImageSummary>,
    /// The whole system that the machine runs instead of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemRecord>,
    /// The container's process: the image's settings, overridden by the spec's.
    #[serde(default)]
    pub process: Process,
    /// Of a clone whose container was started as its source's: the variables that it was started with besides the image's
    /// and `spec.env`. A process keeps them, and a later start of the machine sets them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_env: BTreeMap<String, String>,
    /// The machine's network.
    pub network: Option<NetworkRecord>,
    /// What executes the guest's instructions, and why that was chosen.
    pub accelerator: Option<String>,
    /// How the guest was started: `cold`, `warm` from a boot snapshot, or `clone`.
    pub boot_method: Option<String>,
    /// Why it was booted cold.
    #[serde(default)]
    pub boot_reason: Option<String>,
    /// The snapshot that it was restored from, whose memory it still shares.
    #[serde(default)]
    pub origin: Option<SnapshotId>,
    /// What a host needs to restore a snapshot of this machine.
    #[serde(default)]
    pub requires: Option<Requirements>,
    /// The number of files that form its writable disk, each layered over the one before.
    #[serde(default = "default_disk_layers")]
    pub disk_layers: u32,
    /// The disks of its named volumes, in the order of [`named_volumes`](super::named_volumes).
    #[serde(default)]
    pub volumes: Vec<VolumeDisk>,
    /// The UUID that tells this machine from all other clones.
    #[serde(default)]
    #[serde(rename = "generation")]
    pub vm_generation: Option<String>,
    /// The identity steps that ran in the guest, in order.
    #[serde(default)]
    pub identity: Vec<IdentityStep>,
    /// The snapshot server that started it, and that it ends with.
    #[serde(default)]
    pub serve: Option<ServeReference>,
    /// Whether it waits in a pool for a request.
    #[serde(default)]
    pub waiting: bool,
    /// Why the VMM has paused it, if that is because the host cannot write its disk.
    #[serde(default)]
    pub disk_error: Option<String>,
    /// Bytes of output that could not be logged.
    #[serde(default)]
    pub log_lost_bytes: u64,
    /// The result of its health checks.
    pub health: Option<Health>,
    /// How often its restart policy has started it again since the last start that a user requested.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether a user stopped it. Its restart policy does not apply then.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// When it was created, started and finished.
    pub times: Times,
}

/// A snapshot server.
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

/// A machine's state, with the data that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// The machine was never started.
    Created,
    /// The container does not run yet.
    Creating,
    /// The container runs: the guest's agent has answered, and has started it or, in a clone, resumed it.
    Running,
    /// The vCPUs are stopped.
    Paused,
    /// The machine has received a request to stop.
    Stopping,
    /// The container has exited, and the supervisor is about to start the machine again.
    Restarting(Exit),
    /// The machine has exited.
    Exited(Exit),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The container's exit code as a shell shows it: 128 plus the signal's number for a signal.
    pub code: i32,
    /// Whether the guest's kernel killed it because memory ran out.
    #[serde(default)]
    pub out_of_memory: bool,
    /// What failed, if the container did not exit by itself.
    #[serde(default)]
    pub error: Option<String>,
}

/// The image that a machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Its id.
    pub id: String,
    /// Its name when the machine was created.
    pub name: String,
}

/// A whole system on a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRecord {
    /// The base that it was made from.
    pub base: String,
    /// The digest of the base's disk.
    pub digest: String,
    /// The number of the partition that holds its root, from 1; `None`: the root is the whole disk.
    pub partition: Option<u32>,
    /// The root's filesystem, by the kernel's name.
    pub filesystem: String,
    /// The path of its init.
    pub init: String,
}

/// A machine's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its subnet, out of the range that mimeo uses.
    pub subnet: Subnet,
    /// The machine's address.
    pub ip: Ipv4Addr,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// The NIC's MAC address.
    pub mac: MacAddress,
    /// The addresses by which the host and other machines reach it, if it is on a bridge.
    #[serde(default)]
    pub outer: Option<BridgeRecord>,
    /// The published ports; each has its host port once the machine runs.
    pub ports: Vec<PortMapping>,
}

/// A machine's addresses on the host's bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// The IPv4 address.
    pub ip: Ipv4Addr,
    /// The IPv6 address, if the host has IPv6.
    pub ip6: Option<Ipv6Addr>,
}

impl NetworkRecord {
    /// Returns the address at which the host reaches the machine.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.outer.map_or(self.ip, |outer| outer.ip)
    }

    /// Returns the prefix length of that address.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.outer.map_or(Subnet::PREFIX, |_| mimeo_net::bridged::BridgeAddress::PREFIX)
    }

    /// Returns the machine's gateway.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.outer.map_or(self.gateway, |_| mimeo_net::bridged::BridgeAddress::gateway())
    }
}

/// The result of a machine's health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The status.
    pub status: HealthStatus,
    /// Consecutive failures.
    pub failing_streak: u32,
    /// The output of the last failed check.
    pub last_failure: Option<String>,
}

/// A machine's health status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, and too few have failed.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks failed in a row.
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

/// When a machine was created, started and finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// When it was requested.
    pub created: Timestamp,
    /// When its container started.
    pub started: Option<Timestamp>,
    /// When it exited.
    pub finished: Option<Timestamp>,
    /// Milliseconds of each stage of its start, in order.
    #[serde(default)]
    pub stages: Vec<(String, u64)>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file does not exist.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The expected path.
        path: PathBuf,
    },
    /// The file could not be parsed and was set aside.
    #[error("{} could not be parsed ({reason}) and is kept as {}", path.display(), aside.display())]
    Corrupt {
        /// The path of the file.
        path: PathBuf,
        /// The path that it was renamed to.
        aside: PathBuf,
        /// The parser's error.
        reason: String,
    },
    /// A newer mimeo wrote it.
    #[error("{} has format {format}, this mimeo knows {FORMAT}: use the mimeo that made it", path.display())]
    Newer {
        /// The path of the file.
        path: PathBuf,
        /// The version of its format.
        format: u32,
    },
    /// An operation on the file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Record {
    /// Returns whether the machine uses this named volume, and not a copy of its own.
    #[must_use]
    pub fn refers_to(&self, volume: &VolumeName) -> bool {
        let is_own = self.volumes.iter().any(|disk| disk.own && disk.name == *volume);
        !is_own && self.spec.volume_mounts.iter().any(|mount| mount.name.as_ref() == Some(volume))
    }

    /// Creates the record of a machine that was just requested; the current process is its supervisor.
    #[must_use]
    pub fn new(id: MachineId, name: MachineName, spec: MachineSpec) -> Self {
        Self {
            format: FORMAT,
            id,
            name,
            spec,
            state: State::Creating,
            supervisor: ProcessIdentity::own(),
            client: None,
            vmm: None,
            image: None,
            system: None,
            process: Process::default(),
            source_env: BTreeMap::new(),
            network: None,
            accelerator: None,
            boot_method: None,
            boot_reason: None,
            origin: None,
            requires: None,
            disk_layers: 1,
            volumes: Vec::new(),
            vm_generation: None,
            identity: Vec::new(),
            serve: None,
            waiting: false,
            disk_error: None,
            log_lost_bytes: 0,
            health: None,
            restart_count: 0,
            stopped_by_user: false,
            times: Times { created: Timestamp::now(), started: None, finished: None, stages: Vec::new() },
        }
    }

    /// Returns the machine's state without its data.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Created => Phase::Created,
            State::Creating => Phase::Creating,
            State::Running => Phase::Running,
            State::Paused if self.disk_error.is_some() => Phase::DiskError,
            State::Paused => Phase::Paused,
            State::Stopping => Phase::Stopping,
            State::Restarting(_) => Phase::Restarting,
            State::Exited(_) => Phase::Exited,
        }
    }

    /// Returns the environment, directory and user of the container's process, without a command, for
    /// processes that join the container.
    #[must_use]
    pub fn exec_defaults(&self) -> Process {
        let Process { env, cwd, user, .. } = self.process.clone();
        Process { env, cwd, user, ..Process::default() }
    }

    /// Returns the variables that the container was started with, in addition to the image's.
    #[must_use]
    pub fn requested_env(&self) -> BTreeMap<String, String> {
        let mut env = self.source_env.clone();
        env.extend(self.spec.env.clone());
        env
    }

    /// Makes the variables that a clone's container had from its source the machine's own: its container is about to be
    /// started.
    pub(crate) fn adopt_source_env(&mut self) {
        self.spec.env = self.requested_env();
        self.source_env.clear();
    }

    /// Returns whether `pid` is its supervisor, or the `mimeo` that started it and is attached to it.
    #[must_use]
    pub fn has_process(&self, pid: u32) -> bool {
        let client = self.client.as_ref().filter(|client| client.is_alive());
        self.supervisor.pid == pid || client.is_some_and(|client| client.pid == pid)
    }

    /// Returns how the machine exited, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Returns how the container last exited, also while the machine waits for its restart.
    #[must_use]
    pub fn last_exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) | State::Restarting(exit) => Some(exit),
            _ => None,
        }
    }

    /// Reads the record of the machine in `dir`. A file that cannot be parsed is set aside under
    /// another name, never deleted.
    ///
    /// # Errors
    /// If there is no readable record.
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

    /// Writes the record into `dir` atomically.
    ///
    /// # Errors
    /// If the write fails; the previous record stays in place then.
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
