//! `freeze`: the workload stands, and a snapshot may be taken.
//!
//! What takes time comes before the workload stands; what is asked a second
//! time, when it does, takes next to none.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::inside::blocking;
use crate::machine::Machine;
use crate::{cgroup, rootfs};

/// What a copy needs to end its parent's connections: loaded here once, and not
/// in every copy.
const MODULE: &str = "tcp_diag";

/// Stops the workload, if there is one.
pub(crate) async fn act(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _building = machine.building.lock().await;
    let workload = machine.has_started();
    if !machine.is_frozen() {
        machine.modules_loaded().await?;
        let modules = machine.modules.clone();
        blocking(move || {
            modules.demand(MODULE)?;
            if workload { Ok(rootfs::flush()?) } else { Ok(()) }
        })
        .await?;
    }
    if workload {
        blocking(cgroup::freeze).await?;
        machine.set_frozen(true);
    }
    Ok(Reply::Frozen {})
}
