//! Step 5: sets the NIC's MAC address, its IP address and its routes.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::step_log::StepSuccess;
use crate::network;

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    match network::reconfigure(identity.interface.as_ref())? {
        true => Ok(StepSuccess::Done),
        false => Ok(StepSuccess::NotNeeded),
    }
}
