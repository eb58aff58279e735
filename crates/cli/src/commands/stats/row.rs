//! A machine's resource usage: podman's formatted fields, and the same as numbers.

use std::collections::BTreeMap;

use mimeo_engine::{Found, Record};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::humanize;
use crate::resource_usage::{ResourceUsage, Source};

/// The table of families: machines that were restored from the same snapshot.
pub(crate) const FAMILY_HEADINGS: [&str; 5] = ["FAMILY", "MACHINES", "HOST MEM", "UNIQUE", "SHARED"];

/// A row for each snapshot that several of `rows` were restored from.
pub(crate) fn families(rows: &[Row]) -> Vec<Vec<String>> {
    let mut families: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        if let Some(family) = &row.family {
            families.entry(family).or_default().push(row);
        }
    }
    families.retain(|_, members| members.len() > 1);
    families.into_iter().map(|(name, members)| family(name, &members)).collect()
}

/// A family's row. Shared memory exists once, however many machines share it:
/// the largest share of one machine is a lower bound.
fn family(name: &str, members: &[&Row]) -> Vec<String> {
    let sum = |field: fn(&Row) -> u64| members.iter().map(|row| field(row)).sum();
    let shared = members.iter().map(|row| row.host_shared_bytes).max().unwrap_or_default();
    let sizes = [sum(|row| row.host_pss_bytes), sum(|row| row.host_unique_bytes), shared];
    let mut cells = vec![name.to_owned(), members.len().to_string()];
    cells.extend(sizes.map(|bytes: u64| humanize::size(bytes, 4)));
    cells
}

/// podman's columns, then the host's memory that the machine uses, and the source of the values.
pub(crate) const HEADINGS: [&str; 14] = [
    "ID",
    "NAME",
    "CPU %",
    "MEM USAGE / LIMIT",
    "MEM %",
    "NET IO",
    "BLOCK IO",
    "PIDS",
    "CPU TIME",
    "AVG CPU %",
    "HOST MEM",
    "UNIQUE",
    "SHARED",
    "SOURCE",
];

/// podman's headings of the fields of `--format`.
pub(super) const FIELD_HEADINGS: [(&str, &str); 9] = [
    ("CPUPerc", "CPU %"),
    ("AvgCPU", "AVG CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("UpTime", "CPU TIME"),
    ("PIDs", "PIDS"),
];

/// One machine: podman's formatted fields, then numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    id: String,
    name: String,
    cpu_percent: String,
    mem_usage: String,
    mem_percent: String,
    net_io: String,
    block_io: String,
    pids: String,
    cpu_time: String,
    avg_cpu: String,
    /// `agent`, or `vmm` if the agent does not answer.
    source: Source,
    cpu_micros: u64,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    network_received_bytes: Option<u64>,
    network_sent_bytes: Option<u64>,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
    processes: Option<u64>,
    /// Proportional set size (PSS) of the VMM and the supervisor.
    host_pss_bytes: u64,
    /// Host memory that only this machine uses.
    host_unique_bytes: u64,
    /// Host memory that this machine shares with others.
    host_shared_bytes: u64,
    /// The snapshot that the machine was restored from, whose memory it still shares.
    family: Option<String>,
    vmm_pss_bytes: u64,
    supervisor_pss_bytes: u64,
}

impl Row {
    /// The row for `usage`, compared to the usage `before`.
    pub(crate) fn new(record: &Record, usage: &ResourceUsage, before: Option<&ResourceUsage>) -> Self {
        let size = |bytes| humanize::size(bytes, 4);
        let pair = |pair: Option<(u64, u64)>| match pair {
            Some((input, output)) => format!("{} / {}", size(input), size(output)),
            None => "-- / --".to_owned(),
        };
        let pss =
            |process: Option<mimeo_engine::ProcessUsage>| process.map_or(0, |process| process.pss_bytes);
        Self {
            id: record.id.short().to_owned(),
            name: record.name.to_string(),
            cpu_percent: format!("{:.2}%", usage.cpu_percent(before)),
            mem_usage: format!("{} / {}", size(usage.memory_bytes), size(usage.memory_limit_bytes)),
            mem_percent: format!("{:.2}%", usage.memory_percent()),
            net_io: pair(usage.network),
            block_io: pair(usage.disk),
            pids: usage.processes.map_or_else(|| "--".to_owned(), |pids| pids.to_string()),
            cpu_time: humanize::cpu_time(usage.cpu_micros),
            avg_cpu: format!("{:.2}%", usage.cpu_percent(None)),
            source: usage.source,
            cpu_micros: usage.cpu_micros,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
            network_received_bytes: usage.network.map(|pair| pair.0),
            network_sent_bytes: usage.network.map(|pair| pair.1),
            disk_read_bytes: usage.disk.map(|pair| pair.0),
            disk_written_bytes: usage.disk.map(|pair| pair.1),
            processes: usage.processes,
            host_pss_bytes: usage.host.pss_bytes(),
            host_unique_bytes: usage.host.unique_bytes(),
            host_shared_bytes: usage.host.shared_bytes(),
            family: record.origin.as_ref().map(|origin| origin.short().to_owned()),
            vmm_pss_bytes: pss(usage.host.vmm),
            supervisor_pss_bytes: pss(usage.host.supervisor),
        }
    }

    /// Shows the whole id instead of its start.
    pub(super) fn show_whole_id(&mut self, machines: &[Found]) {
        if let Some(found) = machines.iter().find(|found| found.record.id.short() == self.id) {
            self.id = found.record.id.to_string();
        }
    }

    /// The fields for `--format`: those of the JSON, and podman's.
    pub(super) fn fields(&self) -> Result<Value, CliError> {
        let mut value = serde_json::to_value(self)?;
        let podman = json!({
            "ID": self.id, "ContainerID": self.id, "Name": self.name, "CPUPerc": self.cpu_percent,
            "AvgCPU": self.avg_cpu, "MemUsage": self.mem_usage, "MemPerc": self.mem_percent, "NetIO": self.net_io,
            "BlockIO": self.block_io, "PIDs": self.pids, "PIDS": self.pids, "UpTime": self.cpu_time,
            "CPUNano": self.cpu_micros * 1000, "MemLimit": self.memory_limit_bytes,
            "MemUsageBytes": format!("{} / {}", humanize::binary_size(self.memory_bytes),
                                     humanize::binary_size(self.memory_limit_bytes)),
        });
        if let (Value::Object(own), Value::Object(podman)) = (&mut value, podman) {
            own.extend(podman);
        }
        Ok(value)
    }

    /// The cells of the table.
    pub(crate) fn cells(&self) -> Vec<String> {
        let texts = [
            &self.id,
            &self.name,
            &self.cpu_percent,
            &self.mem_usage,
            &self.mem_percent,
            &self.net_io,
            &self.block_io,
            &self.pids,
            &self.cpu_time,
            &self.avg_cpu,
        ];
        let mut cells: Vec<_> = texts.into_iter().cloned().collect();
        let host = [self.host_pss_bytes, self.host_unique_bytes, self.host_shared_bytes];
        cells.extend(host.map(|bytes| humanize::size(bytes, 4)));
        cells.push(self.source.name().to_owned());
        cells
    }
}
