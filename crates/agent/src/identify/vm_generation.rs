//! Line 2: which copy this is.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::step_log::StepSuccess;
use crate::metadata;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    // Before `configure` there is no directory yet.
    metadata::prepare()?;
    metadata::write_vm_generation(&identity.generation).map(|()| StepSuccess::Done)
}
