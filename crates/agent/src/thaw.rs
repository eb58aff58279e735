//! `thaw`: the workload goes on.

use std::sync::Arc;

use mimeo_agent_protocol::message::{ClockMark, Failure, Reply};
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

/// How much of the time that the machine stood still its clock has missed, at this time of the monotonic clock: all of it,
/// or nothing.
pub(crate) fn missed(stood_still: u64, since: Option<ClockMark>, now: u64) -> u64 {
    let Some(ClockMark { guest_nanos, elapsed_nanos }) = since else { return stood_still };
    let went_on = now.saturating_sub(guest_nanos).saturating_add(stood_still / 2) > elapsed_nanos;
    if went_on { 0 } else { stood_still }
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    nanos(ClockId::Monotonic)
}

/// The wall clock, in nanoseconds since 1970.
fn now() -> u64 {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_a_clock_that_stopped_has_missed_something() {
        let since = Some(ClockMark { guest_nanos: 100 * SECOND, elapsed_nanos: 21 * SECOND });
        assert_eq!(missed(20 * SECOND, since, 101 * SECOND), 20 * SECOND);
        assert_eq!(missed(20 * SECOND, since, 121 * SECOND), 0);
        // An agent is told nothing by an older host.
        assert_eq!(missed(20 * SECOND, None, 121 * SECOND), 20 * SECOND);
    }
}
