//! A machine's resource usage: as the guest's kernel counts it or, when the
//! agent does not answer, as the host counts it for the VMM's process.

use std::time::Duration;

use jiff::Timestamp;
use mimeo_agent_protocol::message::{Metrics, Reply, Request};
use mimeo_engine::machine::{Found, Record};
use mimeo_engine::{ControlClient, Engine, HostUsage};
use tokio::time::timeout;

/// How long the agent may take to answer the request for metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The guest's agent.
    Agent,
    /// The host's accounting of the VMM's process.
    Vmm,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Vmm => "vmm",
        }
    }
}

/// A machine's resource usage at one moment.
#[derive(Debug, Clone)]
pub(crate) struct ResourceUsage {
    pub(crate) source: Source,
    pub(crate) at: Timestamp,
    pub(crate) started: Timestamp,
    /// CPU time since the start, in microseconds.
    pub(crate) cpu_micros: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_limit_bytes: u64,
    /// Bytes received and sent; `None` without the agent's metrics.
    pub(crate) network: Option<(u64, u64)>,
    /// Bytes read and written; `None` without the agent's metrics.
    pub(crate) disk: Option<(u64, u64)>,
    pub(crate) processes: Option<u64>,
    /// The host's resources that the machine uses, whatever the source.
    pub(crate) host: HostUsage,
}

impl ResourceUsage {
    /// Reads the machine's usage now.
    pub(crate) async fn read(engine: &Engine, found: &Found) -> Self {
        let metrics = timeout(METRICS_TIMEOUT, request_metrics(engine, found)).await.ok().flatten();
        let host = HostUsage::measure(&found.record);
        match metrics {
            Some(metrics) => Self::from_agent(&found.record, &metrics, host),
            None => Self::from_vmm(&found.record, host),
        }
    }

    fn from_agent(record: &Record, metrics: &Metrics, host: HostUsage) -> Self {
        let memory = metrics.memory;
        let used = memory.total_bytes.saturating_sub(memory.available_bytes);
        Self {
            cpu_micros: metrics
                .container_cpu_micros
                .unwrap_or(metrics.cpu.user_micros + metrics.cpu.system_micros),
            memory_bytes: metrics.container_memory_bytes.unwrap_or(used),
            memory_limit_bytes: memory.total_bytes,
            network: Some((metrics.network.received_bytes, metrics.network.sent_bytes)),
            disk: Some((metrics.disk_read_bytes, metrics.disk_written_bytes)),
            processes: Some(metrics.processes),
            ..Self::empty(Source::Agent, record, host)
        }
    }

    fn from_vmm(record: &Record, host: HostUsage) -> Self {
        Self {
            cpu_micros: host.vmm.map_or(0, |vmm| vmm.cpu_micros),
            memory_bytes: host.vmm.map_or(0, |vmm| vmm.pss_bytes),
            // The VMM's CPU time includes the guest's boot.
            started: record.times.created,
            ..Self::empty(Source::Vmm, record, host)
        }
    }

    fn empty(source: Source, record: &Record, host: HostUsage) -> Self {
        Self {
            source,
            at: Timestamp::now(),
            started: record.times.started.unwrap_or(record.times.created),
            cpu_micros: 0,
            memory_bytes: 0,
            memory_limit_bytes: u64::from(record.spec.memory_mib) << 20,
            network: None,
            disk: None,
            processes: None,
            host,
        }
    }

    /// CPU usage in percent of one CPU: since `before`, or since the start.
    pub(crate) fn cpu_percent(&self, before: Option<&Self>) -> f64 {
        let before =
            before.filter(|before| before.source == self.source && before.cpu_micros <= self.cpu_micros);
        let (since, micros) = before.map_or((self.started, 0), |before| (before.at, before.cpu_micros));
        let elapsed = self.at.duration_since(since).as_secs_f64();
        if elapsed <= 0.0 { 0.0 } else { (self.cpu_micros - micros) as f64 / 1e4 / elapsed }
    }

    /// Memory usage in percent of the machine's memory.
    pub(crate) fn memory_percent(&self) -> f64 {
        self.memory_bytes as f64 * 100.0 / self.memory_limit_bytes.max(1) as f64
    }
}

async fn request_metrics(engine: &Engine, found: &Found) -> Option<Metrics> {
    let client = ControlClient::connect(engine.home(), found).await.ok()?;
    match client.guest(Request::Metrics).await.ok()?.0 {
        Reply::Metrics(metrics) => Some(*metrics),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use mimeo_engine::{MachineId, MachineSpec};

    use super::*;

    #[test]
    fn cpu_percent_is_since_the_last_sample() {
        let record = Record::new(MachineId::random(), "x".parse().expect("a name"), MachineSpec::new("x"));
        let mut now = ResourceUsage::empty(Source::Agent, &record, HostUsage::default());
        now.started = now.at - 10.seconds();
        now.cpu_micros = 1_000_000;
        assert!((now.cpu_percent(None) - 10.0).abs() < 0.1);
        let mut before = now.clone();
        before.at = now.at - 1.seconds();
        before.cpu_micros = 500_000;
        assert!((now.cpu_percent(Some(&before)) - 50.0).abs() < 0.1);
        before.source = Source::Vmm;
        assert!((now.cpu_percent(Some(&before)) - 10.0).abs() < 0.1);
    }
}
