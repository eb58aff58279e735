//! What a monitor's process is told on its standard input, and what it says
//! on its standard output until its machine runs: JSON, one value a line.

use std::path::PathBuf;

use mimeo_net::PortMapping;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;
pub use crate::machine::CloneOverrides;
use crate::machine::{MachineName, MachineSpec, Record, ServeReference};

/// The first line: what to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "make", rename_all = "snake_case")]
pub enum LaunchRequest {
    /// A machine of an image.
    Run {
        /// The machine.
        spec: Box<MachineSpec>,
        /// Show no progress.
        quiet: bool,
    },
    /// A copy of a machine.
    Clone(Box<CloneRequest>),
    /// What could not be made before, for later starts.
    Retry(Retry),
}

/// What is to be tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "retry", rename_all = "snake_case")]
pub enum Retry {
    /// The runtime snapshot of machines like this one, and its stencil.
    Runtime {
        /// One of the machines.
        spec: Box<MachineSpec>,
    },
    /// The stencil of a machine's snapshot.
    Stencil {
        /// The snapshot.
        snapshot: SnapshotId,
    },
}

/// A copy of a machine, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneRequest {
    /// What it is a copy of.
    pub snapshot: SnapshotId,
    /// When its workload goes on.
    pub hold: HoldPolicy,
    /// The server that it belongs to, and ends with.
    pub serve: Option<ServeReference>,
    /// The socket of a page server that gives it its memory; otherwise it maps the file.
    #[serde(default)]
    pub pager: Option<PathBuf>,
    /// What makes it this machine.
    pub overrides: CloneOverrides,
}

/// Children of a fork for which a stencil is worth its making.
const MIN_CLONES_FOR_STENCIL: usize = 3;

impl CloneRequest {
    /// Whether enough copies begin from the same snapshot that it is worth a stencil.
    pub(crate) fn is_of_many(&self) -> bool {
        match self.hold {
            HoldPolicy::Fork { clones, .. } => clones >= MIN_CLONES_FOR_STENCIL,
            HoldPolicy::Never | HoldPolicy::Pool => true,
        }
    }
}

/// When a copy's workload goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "until", rename_all = "snake_case")]
pub enum HoldPolicy {
    /// At once.
    Never,
    /// When all children of a fork are ready: a line says so, or, when whoever
    /// forks is gone, this file.
    Fork {
        /// Where the decision is written.
        decision: PathBuf,
        /// How many there are to be.
        clones: usize,
    },
    /// When somebody takes it from the pool.
    Pool,
}

/// A later line to a monitor that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "go", rename_all = "snake_case")]
pub enum Release {
    /// As it was ordered.
    #[serde(rename = "ahead")]
    Proceed,
    /// As this machine.
    #[serde(rename = "as")]
    ProceedAs(CloneOverrides),
}

/// What a monitor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum SupervisorReport {
    /// The copy is itself, and its workload waits.
    Ready {
        /// What it will be.
        clone: Box<CloneInfo>,
    },
    /// The workload goes on.
    Running {
        /// What it is.
        clone: Box<CloneInfo>,
    },
    /// There is no copy; nothing is left of it.
    Failed {
        /// What failed, and why.
        message: String,
    },
}

/// A copy that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: MachineName,
    /// The process that owns it.
    pub pid: u32,
    /// The number that tells it from all other copies.
    #[serde(rename = "generation")]
    pub vm_generation: String,
    /// Its address, if it has a network.
    pub ip: Option<std::net::Ipv4Addr>,
    /// Its published ports.
    pub ports: Vec<PortMapping>,
    /// Milliseconds of each stage of its start, in order.
    pub stages: Vec<(String, u64)>,
}

impl CloneInfo {
    pub(crate) fn new(record: &Record, stages: Vec<(String, u64)>) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            pid: record.supervisor.pid,
            vm_generation: record.vm_generation.clone().unwrap_or_default(),
            ip: record.network.as_ref().map(|network| network.ip),
            ports: record.network.as_ref().map(|network| network.ports.clone()).unwrap_or_default(),
            stages,
        }
    }
}
