//! `metrics`: reads the machine's metrics.

use std::fs::read_to_string;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Filesystem, Metrics, Reply};

use crate::blocking::run_blocking;
use crate::failure::{Context, SystemError};
use crate::machine::Machine;
use crate::{cgroup, procfs, rootfs};

/// Reads all of the kernel's counters.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let configured = machine.container_root().is_ok();
    let is_system = machine.is_system();
    let metrics = run_blocking(move || Ok(read(configured, is_system)?)).await?;
    Ok(Reply::Metrics(Box::new(metrics)))
}

fn read(configured: bool, is_system: bool) -> Result<Metrics, SystemError> {
    let proc = |name: &str| read_to_string(format!("/proc/{name}")).context(format!("read /proc/{name}"));
    let (disk_read_bytes, disk_written_bytes) = procfs::disks(&proc("diskstats")?);
    Ok(Metrics {
        cpu: procfs::cpu(&proc("stat")?),
        memory: procfs::memory(&proc("meminfo")?),
        load: procfs::load(&proc("loadavg")?),
        uptime_seconds: procfs::uptime(&proc("uptime")?),
        processes: cgroup::process_count(is_system),
        disk: if configured { filesystem()? } else { Filesystem::default() },
        network: procfs::network(&proc("net/dev")?),
        container_memory_bytes: cgroup::memory_bytes(is_system),
        container_cpu_micros: cgroup::cpu_micros(is_system),
        disk_read_bytes,
        disk_written_bytes,
    })
}

/// The size and use of the container's root. The overlay reports those of the writable layer.
fn filesystem() -> Result<Filesystem, SystemError> {
    let figures = rustix::fs::statvfs(rootfs::ROOT).context("read the size of the container's root")?;
    let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
    Ok(Filesystem {
        total_bytes: bytes(figures.f_blocks),
        used_bytes: bytes(figures.f_blocks.saturating_sub(figures.f_bfree)),
    })
}
