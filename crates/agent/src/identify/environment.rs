//! Step 8: replaces the source's environment in /run/mimeo/env with the clone's.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::step_log::StepSuccess;
use crate::metadata;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    metadata::write_environment(&identity.env).map(|()| StepSuccess::Done)
}
