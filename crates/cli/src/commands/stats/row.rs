//! A machine's figures in podman's words, and as numbers.

use mimeo_engine::Record;
use serde::Serialize;

use crate::figures::{Figures, Source};
use crate::words;

/// podman's columns, then what the machine costs the host, and who says it.
pub(crate) const HEADINGS: [&str; 12] = [
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
    "SOURCE",
];

/// One machine: podman's texts, then figures.
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
    /// `agent`, or `vmm` when that does not answer.
    source: Source,
    cpu_micros: u64,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    network_received_bytes: Option<u64>,
    network_sent_bytes: Option<u64>,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
    processes: Option<u64>,
    /// Proportional share of the host's memory, virtual machine monitor and mimeo's own process.
    host_pss_bytes: u64,
    vmm_pss_bytes: u64,
    monitor_pss_bytes: u64,
}

impl Row {
    /// `figures` with what they were `before`.
    pub(crate) fn of(record: &Record, figures: &Figures, before: Option<&Figures>) -> Self {
        let size = |bytes| words::size(bytes, 4);
        let pair = |pair: Option<(u64, u64)>| match pair {
            Some((one, two)) => format!("{} / {}", size(one), size(two)),
            None => "-- / --".to_owned(),
        };
        let pss = |usage: Option<mimeo_engine::ProcessUsage>| usage.map_or(0, |usage| usage.pss_bytes);
        Self {
            id: record.id.short().to_owned(),
            name: record.name.to_string(),
            cpu_percent: format!("{:.2}%", figures.cpu_percent(before)),
            mem_usage: format!("{} / {}", size(figures.memory_bytes), size(figures.memory_limit_bytes)),
            mem_percent: format!("{:.2}%", figures.memory_percent()),
            net_io: pair(figures.network),
            block_io: pair(figures.disk),
            pids: figures.processes.map_or_else(|| "--".to_owned(), |pids| pids.to_string()),
            cpu_time: words::clock(figures.cpu_micros),
            avg_cpu: format!("{:.2}%", figures.cpu_percent(None)),
            source: figures.source,
            cpu_micros: figures.cpu_micros,
            memory_bytes: figures.memory_bytes,
            memory_limit_bytes: figures.memory_limit_bytes,
            network_received_bytes: figures.network.map(|pair| pair.0),
            network_sent_bytes: figures.network.map(|pair| pair.1),
            disk_read_bytes: figures.disk.map(|pair| pair.0),
            disk_written_bytes: figures.disk.map(|pair| pair.1),
            processes: figures.processes,
            host_pss_bytes: figures.host.pss_bytes(),
            vmm_pss_bytes: pss(figures.host.vmm),
            monitor_pss_bytes: pss(figures.host.monitor),
        }
    }

    /// As a line of the table.
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
        cells.push(words::size(self.host_pss_bytes, 4));
        cells.push(self.source.name().to_owned());
        cells
    }
}
