//! `GET …/metrics` and `GET …/top`.

use std::time::Duration;

use axum::extract::{Path, State};
use mimeo_agent_protocol::message::{Metrics, ProcessInfo, Reply, Request};
use mimeo_engine::machine::Found;
use mimeo_engine::{HostUsage, ProcessUsage};
use mimeo_manager_api::{
    GuestMetrics, Item, Items, MachineMetrics, MetricsSource, ProcessItem, ProcessMetrics,
};
use tokio::time::timeout;

use crate::App;
use crate::find_machine::{find, in_engine, running_in_engine};
use crate::guest;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::problems;

/// How long the agent may take to answer.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads what a running machine uses.
#[utoipa::path(get, path = "/{id}/metrics", tag = "machines", operation_id = "metrics",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The figures.", body = Item<MachineMetrics>)))]
pub(super) async fn metrics(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<MachineMetrics>>> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = running_in_engine(&app, &row)?;
    let guest = timeout(METRICS_TIMEOUT, guest_metrics(&app, &found)).await.ok().flatten();
    let record = found.record.clone();
    // Reading the memory map of a large VMM takes milliseconds.
    let host = tokio::task::spawn_blocking(move || HostUsage::measure(&record)).await.unwrap_or_default();
    Ok(Json(Item { item: describe(&found, guest, host) }))
}

async fn guest_metrics(app: &App, found: &Found) -> Option<Metrics> {
    let client = guest::connect(app, found).await.ok()?;
    match client.guest(Request::Metrics).await.ok()?.0 {
        Reply::Metrics(metrics) => Some(*metrics),
        _ => None,
    }
}

fn describe(found: &Found, metrics: Option<Metrics>, host: HostUsage) -> MachineMetrics {
    let spec = &found.record.spec;
    let vmm = host.vmm.unwrap_or_default();
    let item = MachineMetrics {
        source: MetricsSource::Vmm,
        time: jiff::Timestamp::now(),
        cpu_micros: vmm.cpu_micros,
        cpus: spec.cpus,
        memory_bytes: vmm.pss_bytes,
        memory_limit_bytes: u64::from(spec.memory_mib) << 20,
        processes: None,
        guest: None,
        vmm: host.vmm.map(process_metrics),
        supervisor: host.supervisor.map(process_metrics),
    };
    let Some(metrics) = metrics else { return item };
    let (cpu, memory) = (metrics.cpu, metrics.memory);
    let used = memory.total_bytes.saturating_sub(memory.available_bytes);
    MachineMetrics {
        source: MetricsSource::Agent,
        cpu_micros: metrics.container_cpu_micros.unwrap_or(cpu.user_micros.saturating_add(cpu.system_micros)),
        memory_bytes: metrics.container_memory_bytes.unwrap_or(used),
        processes: Some(metrics.processes),
        guest: Some(guest_item(&metrics)),
        ..item
    }
}

fn guest_item(metrics: &Metrics) -> GuestMetrics {
    let Metrics { cpu, memory, load, disk, network, .. } = metrics;
    GuestMetrics {
        uptime_seconds: metrics.uptime_seconds,
        cpu_user_micros: cpu.user_micros,
        cpu_system_micros: cpu.system_micros,
        cpu_idle_micros: cpu.idle_micros,
        cpu_steal_micros: cpu.steal_micros,
        load_1: load.one,
        load_5: load.five,
        load_15: load.fifteen,
        memory_total_bytes: memory.total_bytes,
        memory_available_bytes: memory.available_bytes,
        memory_free_bytes: memory.free_bytes,
        memory_cached_bytes: memory.cached_bytes,
        disk_total_bytes: disk.total_bytes,
        disk_used_bytes: disk.used_bytes,
        disk_read_bytes: metrics.disk_read_bytes,
        disk_written_bytes: metrics.disk_written_bytes,
        network_received_bytes: network.received_bytes,
        network_sent_bytes: network.sent_bytes,
        network_received_packets: network.received_packets,
        network_sent_packets: network.sent_packets,
    }
}

fn process_metrics(usage: ProcessUsage) -> ProcessMetrics {
    ProcessMetrics {
        pid: usage.pid,
        cpu_micros: usage.cpu_micros,
        pss_bytes: usage.pss_bytes,
        rss_bytes: usage.rss_bytes,
        unique_bytes: usage.unique_bytes,
        shared_bytes: usage.shared_bytes,
    }
}

/// Lists the processes of a running machine's container, by PID.
#[utoipa::path(get, path = "/{id}/top", tag = "machines", operation_id = "top",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The processes.", body = Items<ProcessItem>)))]
pub(super) async fn top(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Items<ProcessItem>>> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    let client = guest::connect(&app, &found).await?;
    let replied = client.guest(Request::Processes).await;
    match replied.map_err(|error| problems::control_problem(&error))?.0 {
        Reply::Processes { processes } => {
            Ok(Json(Items { items: processes.into_iter().map(process_item).collect(), next_cursor: None }))
        }
        reply => {
            Err(ApiError::new(502, "connection-lost", format!("unexpected reply from the guest: {reply:?}")))
        }
    }
}

fn process_item(info: ProcessInfo) -> ProcessItem {
    ProcessItem {
        pid: info.pid,
        ppid: info.ppid,
        uid: info.uid,
        user: info.user,
        state: info.state,
        tty: info.tty,
        cpu_micros: info.cpu_micros,
        elapsed_seconds: info.elapsed_seconds,
        rss_bytes: info.rss_bytes,
        command: info.command,
    }
}
