//! The results of `bench api`. The JSON's keys are a format: the committed samples use them.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;
use crate::bench::samples::Samples;

/// Records while the memory is measured.
pub(super) const MEMORY_RECORDS: usize = 1000;

/// The results of one benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Api {
    pub(super) host: Host,
    pub(super) guest_kernel: String,
    /// Records while lists are measured.
    pub(super) records: usize,
    pub(super) starts: Vec<Start>,
    pub(super) lists: Vec<Call>,
    pub(super) calls: Vec<Call>,
    /// The manager's memory (PSS) with 1,000 records, after all calls.
    pub(super) memory_kib: u64,
}

/// From the request for a machine to the result of its first exec.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) origin: String,
    pub(super) clients: usize,
    /// The whole, in milliseconds.
    pub(super) millis: Samples,
    /// The part until the machine ran.
    pub(super) creation: Samples,
}

/// One kind of request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) label: String,
    pub(super) millis: Samples,
    /// Requests per second of four clients.
    pub(super) per_second: Option<f64>,
}

impl Api {
    pub(super) fn new(host: Host, guest_kernel: String, records: usize) -> Self {
        let (starts, lists, calls) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, guest_kernel, records, starts, lists, calls, memory_kib: 0 }
    }
}
