//! Step 2: writes the clone's VM generation to /run/mimeo/generation.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::step_log::StepSuccess;
use crate::metadata;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    // Before `configure` the directory does not exist.
    metadata::prepare()?;
    metadata::write_vm_generation(&identity.vm_generation).map(|()| StepSuccess::Done)
}
