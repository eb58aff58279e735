//! `thaw`: the workload goes on.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Reply};

use crate::cgroup;
use crate::configure::set_clock;
use crate::machine::Machine;

/// Lets the workload go on as it was, by a clock that may be told.
pub(crate) async fn act(machine: &Arc<Machine>, unix_nanos: Option<u64>) -> Result<Reply, Failure> {
    let _building = machine.building.lock().await;
    if let Some(unix_nanos) = unix_nanos {
        set_clock(unix_nanos)?;
    }
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
