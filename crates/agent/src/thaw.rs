//! `thaw`: the workload goes on.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, Reply};
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup;
use crate::configure::set_clock;
use crate::machine::Machine;

/// Lets the workload go on as it was, by a clock that may be told.
pub(crate) async fn act(
    machine: &Arc<Machine>,
    unix_nanos: Option<u64>,
    advance_nanos: u64,
) -> Result<Reply, Failure> {
    let _building = machine.building.lock().await;
    match unix_nanos {
        Some(unix_nanos) => set_clock(unix_nanos)?,
        None if advance_nanos > 0 => set_clock(now().saturating_add(advance_nanos))?,
        None => {}
    }
    workload(machine).map(|()| Reply::Done)
}

/// The wall clock, in nanoseconds since 1970.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// Lets it go on, if it was stopped.
pub(crate) fn workload(machine: &Machine) -> Result<(), Failure> {
    if machine.is_frozen() {
        cgroup::thaw()?;
        machine.set_frozen(false);
    }
    Ok(())
}
