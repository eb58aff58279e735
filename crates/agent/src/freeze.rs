//! `freeze`: freezes the workload, so that a snapshot can be taken.
//!
//! The slow part is done before the workload is frozen, and in advance when the
//! host sends `prepare`. Doing it a second time is fast.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::blocking::run_blocking;
use crate::machine::Machine;
use crate::{cgroup, clocksource, disk_volume, network, rootfs};

/// The module that a clone needs to destroy inherited connections. It is loaded
/// here once instead of in every clone.
const TCP_DIAG_MODULE: &str = "tcp_diag";

/// `prepare`: does the slow part of a freeze in advance.
pub(crate) async fn prepare(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    prepare_for_freeze(machine).await?;
    machine.prepared.store(true, Ordering::Relaxed);
    Ok(Reply::Done)
}

async fn prepare_for_freeze(machine: &Arc<Machine>) -> Result<(), Failure> {
    let workload = machine.has_started();
    machine.modules_loaded().await?;
    let modules = machine.modules.clone();
    let is_system = machine.is_system();
    run_blocking(move || {
        modules.load_on_demand(TCP_DIAG_MODULE)?;
        if workload && is_system {
            rustix::fs::sync();
            return Ok(());
        }
        if workload {
            rootfs::flush()?;
            return Ok(disk_volume::flush()?);
        }
        clocksource::wait_until_registered()?;
        // Every machine needs this before its container starts: it is done here once for all clones.
        cgroup::prepare()?;
        Ok(network::bring_nics_up()?)
    })
    .await
}

/// Freezes the workload, if there is one.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let workload = machine.has_started();
    let prepared = machine.prepared.swap(false, Ordering::Relaxed);
    if !prepared && !machine.is_frozen() {
        prepare_for_freeze(machine).await?;
    }
    if workload {
        let is_system = machine.is_system();
        run_blocking(move || cgroup::freeze(is_system)).await?;
        machine.set_frozen(true);
    }
    Ok(Reply::Frozen {})
}
