//! Snapshots of machines, their clones and their pools.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Machine, Port, Problem};

/// A snapshot of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its tag, unique among all snapshots.
    pub tag: Option<String>,
    /// The name of the user who owns it; `local` for snapshots that were made without the manager.
    pub owner: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its state.
    pub state: SnapshotState,
    /// Its version, which each change increments; also the `ETag`.
    pub version: i64,
    /// What it holds, once it is known.
    pub kind: Option<SnapshotKind>,
    /// The id of the machine that was saved.
    pub machine: String,
    /// The name that the machine had then.
    pub machine_name: String,
    /// The machine's image.
    pub image: String,
    /// The machine's number of vCPUs.
    pub cpus: u32,
    /// The machine's memory in MiB.
    pub memory_mib: u32,
    /// The maximum size of the machine's writable disk in bytes.
    pub disk_bytes: u64,
    /// The VMM's driver.
    pub driver: String,
    /// The snapshot whose memory a `diff` completes.
    pub parent: Option<String>,
    /// Bytes of guest memory that it holds.
    pub memory_bytes: u64,
    /// How long the machine's workload was paused, in milliseconds.
    pub pause_ms: Option<f64>,
    /// When it was taken, or requested.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A snapshot's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It is being taken.
    Creating,
    /// Machines can be started from it.
    Ready,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// All memory of a machine that was booted, its devices and its disks.
    Full,
    /// The memory in which a machine differs from the snapshot that it was restored from, its devices and its disks.
    Diff,
    /// The disks of a machine that did not run.
    Disk,
}

/// A snapshot to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateSnapshot {
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 63, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    pub tag: Option<String>,
    /// What it is to hold. The machine decides what it can be: `diff` if it was restored from a snapshot (also from a boot
    /// snapshot), `full` if it was booted, `disk` if it does not run. Another kind is refused. Default: what it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// Labels to find it by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Clones to start: of a snapshot (each by itself), or of a running machine (a fork: all or none).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloneRequest {
    /// How many. Default: as many as there are names, or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub count: Option<u32>,
    /// The name of each. Default: random ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Environment variables in addition to the image's, for commands in the clones and in their /run/mimeo/env.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Published ports. Default: the original machine's, on free ports of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Labels. Default: the original machine's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Seconds after which the manager deletes the clones. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub ttl_seconds: Option<u64>,
    /// Remove a clone when it has exited.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
}

/// The `result` of an operation that starts clones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CloneResults {
    /// One for each requested clone, in the order of the request.
    pub clones: Vec<CloneResult>,
    /// Of a fork: how long the original's workload was paused, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<f64>,
}

/// What became of a requested clone: `machine` if it runs, `problem` if it could not be started, neither as long as that is
/// undecided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CloneResult {
    /// The clone's id.
    pub id: String,
    /// The clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A pool to keep: clones of a snapshot that have been started and wait to be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPool {
    /// How many clones are kept ready.
    #[schema(minimum = 1, maximum = 100)]
    pub size: u32,
}

/// The pool of a snapshot. Clones that were taken from it do not depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// The snapshot's id.
    pub snapshot: String,
    /// How many clones are kept ready.
    pub size: u32,
    /// How many are ready now.
    pub ready: u32,
    /// Its state.
    pub state: PoolState,
    /// The PID of the process that keeps it.
    pub pid: Option<u32>,
    /// Why the process could not be started, if it could not.
    pub error: Option<String>,
}

/// A pool's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// Its process is being started.
    Starting,
    /// Clones are being started.
    Filling,
    /// It is full.
    Ready,
    /// Its process could not be started; it is tried again.
    Failed,
}
