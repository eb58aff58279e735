//! A machine in `mimeo ps --json`: podman's fields, and mimeo's own `Health` and `VmmPid`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mimeo_engine::machine::Phase;
use mimeo_net::PortMapping;
use serde::Serialize;

use super::{Entry, Size};
use crate::{humanize, view};

/// One machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: Vec<String>,
    /// Seconds since 1970.
    created: i64,
    created_at: String,
    /// Seconds since 1970; 0 before the start.
    started_at: i64,
    exited: bool,
    /// Seconds since 1970; 0 before the machine exits.
    exited_at: i64,
    exit_code: i32,
    state: &'static str,
    status: String,
    /// `healthy`, `starting` or `unhealthy`; empty without a health check.
    health: String,
    /// The supervisor's process; 0 once the machine has exited.
    pid: u32,
    /// The VMM's process.
    vmm_pid: Option<u32>,
    auto_remove: bool,
    labels: BTreeMap<String, String>,
    mounts: Vec<String>,
    networks: Vec<String>,
    ports: Vec<Port>,
    /// With `--size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
}

#[derive(Debug, Serialize)]
struct Port {
    host_ip: String,
    container_port: u16,
    host_port: u16,
    range: u16,
    protocol: String,
}

impl Row {
    /// Converts a record to podman's form.
    pub(super) fn new(entry: &Entry, now: Timestamp) -> Self {
        let record = &entry.found.record;
        let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
        let exited = record.phase() == Phase::Exited;
        Self {
            id: record.id.to_string(),
            names: vec![record.name.to_string()],
            image: entry.image.clone(),
            image_id: record
                .image
                .as_ref()
                .map(|image| view::bare_id(&image.id).to_owned())
                .unwrap_or_default(),
            command: record.process.args.clone(),
            created: record.times.created.as_second(),
            created_at: humanize::ago(record.times.created, now),
            started_at: seconds(record.times.started),
            exited,
            exited_at: seconds(record.times.finished),
            exit_code: record.exit().map_or(0, |exit| exit.code),
            state: view::state(record.phase()),
            status: view::status(record, now),
            health: record.health.as_ref().map(|health| health.status.to_string()).unwrap_or_default(),
            pid: if exited { 0 } else { record.supervisor.pid },
            vmm_pid: record.vmm.as_ref().filter(|_| !exited).map(|vmm| vmm.pid),
            auto_remove: record.spec.remove,
            labels: record.spec.labels.clone(),
            mounts: entry.mounts.clone(),
            networks: record.network.iter().map(|network| view::network_mode(network).to_owned()).collect(),
            ports: view::published(record).iter().map(Port::from).collect(),
            size: entry.size.clone(),
        }
    }
}

impl From<&PortMapping> for Port {
    fn from(port: &PortMapping) -> Self {
        Self {
            host_ip: port.host_ip.to_string(),
            container_port: port.guest_port,
            host_port: port.host_port.unwrap_or_default(),
            range: 1,
            protocol: port.protocol.to_string(),
        }
    }
}
