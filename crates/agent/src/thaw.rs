//! `thaw`: the workload goes on.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::cgroup;
use crate::machine::Machine;

/// Lets the workload go on as it was.
pub(crate) async fn act(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let _building = machine.building.lock().await;
    workload(machine).map(|()| Reply::Done)
}

/// Lets it go on, if it was stopped.
pub(crate) fn workload(machine: &Machine) -> Result<(), Failure> {
    if machine.is_frozen() {
        cgroup::thaw()?;
        machine.set_frozen(false);
    }
    Ok(())
}
