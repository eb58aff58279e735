//! Documents of the API, as far as the command line reads or writes them.

use jiff::Timestamp;
use mimeo_engine::ProcessUsage;
use mimeo_manager_api::{Machine, Problem};
use serde::{Deserialize, Serialize};

use crate::resource_usage::Source;

/// What a client attaches to, and whether the machine is started first: its output waits for this client.
#[derive(Debug, Serialize)]
pub(super) struct StartAttached {
    pub(super) stdin: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) start: bool,
    pub(super) rows: Option<u16>,
    pub(super) columns: Option<u16>,
}

/// What a machine uses.
#[derive(Debug, Deserialize)]
pub(super) struct Figures {
    pub(super) source: Source,
    pub(super) time: Timestamp,
    pub(super) cpu_micros: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_limit_bytes: u64,
    pub(super) processes: Option<u64>,
    pub(super) guest: Option<GuestFigures>,
    pub(super) vmm: Option<ProcessUsage>,
    pub(super) supervisor: Option<ProcessUsage>,
}

/// What a guest has transferred.
#[derive(Debug, Deserialize)]
pub(super) struct GuestFigures {
    pub(super) disk_read_bytes: u64,
    pub(super) disk_written_bytes: u64,
    pub(super) network_received_bytes: u64,
    pub(super) network_sent_bytes: u64,
}

/// The result of an operation that starts clones.
#[derive(Debug, Deserialize)]
pub(super) struct CloneResults {
    pub(super) clones: Vec<CloneResult>,
    #[serde(default)]
    pub(super) pause_ms: Option<f64>,
}

/// What became of a requested clone.
#[derive(Debug, Deserialize)]
pub(super) struct CloneResult {
    #[serde(default)]
    pub(super) machine: Option<Machine>,
    #[serde(default)]
    pub(super) problem: Option<Problem>,
}

/// A snapshot that was taken.
#[derive(Debug, Deserialize)]
pub(super) struct TakenSnapshot {
    pub(super) pause_ms: Option<f64>,
    pub(super) memory_bytes: u64,
}
