//! The idempotency keys of requests that are being carried out.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The keys, with their users, of requests that are being carried out.
#[derive(Debug, Default)]
pub(crate) struct KeysInUse {
    keys: Mutex<HashSet<(String, String)>>,
}

impl KeysInUse {
    /// Adds a user's key; returns false if it is in use.
    pub(crate) fn insert(&self, user: &str, key: &str) -> bool {
        self.lock().insert((user.to_owned(), key.to_owned()))
    }

    /// Removes a user's key.
    pub(crate) fn remove(&self, user: &str, key: &str) {
        self.lock().remove(&(user.to_owned(), key.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
