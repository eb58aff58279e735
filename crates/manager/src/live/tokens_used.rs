//! Which tokens were used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_manager_api::Token;

/// How exactly the last use of a token is recorded.
pub(crate) const PRECISION: Duration = Duration::from_secs(60);

/// The tokens that were used since their use was last recorded.
#[derive(Debug, Default)]
pub(crate) struct TokensUsed {
    used: Mutex<HashMap<String, Timestamp>>,
}

impl TokensUsed {
    /// Remembers that the token was used now.
    pub(crate) fn mark(&self, token: &Token, now: Timestamp) {
        let is_recent = |time: Timestamp| now.duration_since(time).unsigned_abs() < PRECISION;
        if token.last_used_at.is_none_or(|time| !is_recent(time)) {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(token.id.clone(), now);
        }
    }

    /// Takes what is to be recorded.
    pub(crate) fn take(&self) -> HashMap<String, Timestamp> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
