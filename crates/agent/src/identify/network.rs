//! Line 5: the network card, its address and its routes.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::record::Did;
use crate::network;

pub(super) fn take(identity: &Identity) -> Result<Did, Failure> {
    match network::become_another(identity.interface.as_ref())? {
        true => Ok(Did::Done),
        false => Ok(Did::NotNeeded),
    }
}
