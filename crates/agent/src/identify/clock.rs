//! Line 3: the wall clock.

use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Identity};

use super::step_log::StepSuccess;
use crate::configure::set_clock;
use crate::failure::failure;

/// 2020 began: a host that says less has lost its clock.
const EARLIEST: u64 = 1_577_836_800_000_000_000;
/// 2262 ends: the kernel counts no further.
const LATEST: u64 = i64::MAX as u64;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    if !(EARLIEST..LATEST).contains(&identity.unix_nanos) {
        let message = format!("no clock shows {} nanoseconds since 1970", identity.unix_nanos);
        return Err(failure(FailureKind::Invalid, message));
    }
    set_clock(identity.unix_nanos).map(|()| StepSuccess::Done)
}

/// Sets it again, `since` after the host said what it was.
pub(super) fn set_again(identity: &Identity, elapsed: Duration) -> Result<(), Failure> {
    set_clock(identity.unix_nanos.saturating_add(elapsed.as_nanos() as u64))
}
