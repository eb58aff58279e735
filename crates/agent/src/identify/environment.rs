//! Line 8: the parent's environment is withdrawn, the copy's own delivered.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::record::Did;
use crate::told;

pub(super) fn take(identity: &Identity) -> Result<Did, Failure> {
    told::environment(&identity.env).map(|()| Did::Done)
}
