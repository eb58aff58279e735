//! `freeze`: the workload stands, and a snapshot may be taken.
//!
//! What takes time comes before the workload stands, and before that, when
//! the host says that a freeze is to come; what is asked a second time takes
//! next to none.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::blocking::run_blocking;
use crate::machine::Machine;
use crate::{cgroup, network, rootfs};

/// What a copy needs to end its parent's connections: loaded here once, and not
/// in every copy.
const TCP_DIAG_MODULE: &str = "tcp_diag";

/// `prepare`: does beforehand what would keep a freeze waiting.
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
    run_blocking(move || {
        modules.load_on_demand(TCP_DIAG_MODULE)?;
        if workload {
            return Ok(rootfs::flush()?);
        }
        // What every machine needs once it has work is done here once for all copies.
        cgroup::prepare()?;
        Ok(network::bring_nics_up()?)
    })
    .await
}

/// Stops the workload, if there is one.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    let workload = machine.has_started();
    let prepared = machine.prepared.swap(false, Ordering::Relaxed);
    if !prepared && !machine.is_frozen() {
        prepare_for_freeze(machine).await?;
    }
    if workload {
        run_blocking(cgroup::freeze).await?;
        machine.set_frozen(true);
    }
    Ok(Reply::Frozen {})
}
