//! `thaw`: resumes the workload.

use std::sync::Arc;

use mimeo_agent_protocol::message::{ClockMark, Failure, Reply};
use rustix::time::{ClockId, clock_gettime};

use crate::cgroup;
use crate::configure::set_clock;
use crate::machine::Machine;

/// Sets or advances the wall clock as requested, and resumes the workload.
pub(crate) async fn handle(
    machine: &Arc<Machine>,
    unix_nanos: Option<u64>,
    advance_nanos: u64,
) -> Result<Reply, Failure> {
    let _setup_guard = machine.setup_lock.lock().await;
    match unix_nanos {
        Some(unix_nanos) => set_clock(unix_nanos)?,
        None if advance_nanos > 0 => set_clock(wall_clock().saturating_add(advance_nanos))?,
        None => {}
    }
    thaw_workload(machine).map(|()| Reply::Done)
}

/// How much of the pause the guest's clock has missed, given the current monotonic clock: all of it or nothing.
pub(crate) fn missed_nanos(paused_nanos: u64, since: Option<ClockMark>, monotonic_now: u64) -> u64 {
    let Some(ClockMark { guest_nanos, elapsed_nanos }) = since else { return paused_nanos };
    let advanced = monotonic_now.saturating_sub(guest_nanos).saturating_add(paused_nanos / 2) > elapsed_nanos;
    if advanced { 0 } else { paused_nanos }
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    read_nanos(ClockId::Monotonic)
}

/// The wall clock, in nanoseconds since 1970.
fn wall_clock() -> u64 {
    read_nanos(ClockId::Realtime)
}

fn read_nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// Resumes the workload, if it is frozen.
pub(crate) fn thaw_workload(machine: &Machine) -> Result<(), Failure> {
    if machine.is_frozen() {
        cgroup::thaw(machine.is_system())?;
        machine.set_frozen(false);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_a_stopped_clock_missed_time() {
        let since = Some(ClockMark { guest_nanos: 100 * SECOND, elapsed_nanos: 21 * SECOND });
        assert_eq!(missed_nanos(20 * SECOND, since, 101 * SECOND), 20 * SECOND);
        assert_eq!(missed_nanos(20 * SECOND, since, 121 * SECOND), 0);
        // An older host sends no mark.
        assert_eq!(missed_nanos(20 * SECOND, None, 121 * SECOND), 20 * SECOND);
    }
}
