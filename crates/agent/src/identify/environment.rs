//! Line 8: the parent's environment is withdrawn, the copy's own delivered.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::step_log::StepSuccess;
use crate::metadata;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    metadata::write_environment(&identity.env).map(|()| StepSuccess::Done)
}
