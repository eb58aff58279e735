//! Line 2: which copy this is.

use mimeo_agent_protocol::message::{Failure, Identity};

use super::record::Did;
use crate::told;

pub(super) fn take(identity: &Identity) -> Result<Did, Failure> {
    // Before `configure` there is no directory yet.
    told::prepare()?;
    told::generation(&identity.generation).map(|()| Did::Done)
}
