//! Step 3: sets the wall clock.

use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Identity};

use super::step_log::StepSuccess;
use crate::configure::set_clock;
use crate::failure::failure;

/// The beginning of 2020: a host with an earlier time has lost its clock.
const EARLIEST: u64 = 1_577_836_800_000_000_000;
/// In 2262: the kernel's clock goes no further.
const LATEST: u64 = i64::MAX as u64;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    if !(EARLIEST..LATEST).contains(&identity.unix_nanos) {
        let message = format!("invalid clock: {} nanoseconds since 1970", identity.unix_nanos);
        return Err(failure(FailureKind::Invalid, message));
    }
    set_clock(identity.unix_nanos).map(|()| StepSuccess::Done)
}

/// Sets the clock again, `elapsed` after the request arrived.
pub(super) fn set_again(identity: &Identity, elapsed: Duration) -> Result<(), Failure> {
    set_clock(identity.unix_nanos.saturating_add(elapsed.as_nanos() as u64))
}
