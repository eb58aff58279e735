//! The tokens that were used in the last second: most requests come with one of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::TokenRow;

/// How long a token is not read again. What this manager changes is seen at once; this is for a commit of which the answer was
/// lost.
const FRESH: Duration = Duration::from_secs(1);
/// Tokens that are kept at most.
const CAPACITY: usize = 1024;

/// Tokens by the digests of their secrets.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How often tokens or users were changed.
    changes: u64,
    tokens: HashMap<String, (Instant, TokenRow)>,
}

impl TokenCache {
    /// The token with this digest, if it was read just before.
    pub(super) fn get(&self, hash: &str) -> Option<TokenRow> {
        let inner = self.lock();
        let (read_at, row) = inner.tokens.get(hash)?;
        (read_at.elapsed() < FRESH).then(|| row.clone())
    }

    /// How often tokens or users were changed. It is asked for before a token is read.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Adds a token, unless something was changed since it began to be read.
    pub(super) fn insert(&self, hash: String, row: TokenRow, changes: u64) {
        let mut inner = self.lock();
        if inner.changes != changes {
            return;
        }
        if inner.tokens.len() >= CAPACITY {
            inner.tokens.clear();
        }
        inner.tokens.insert(hash, (Instant::now(), row));
    }

    /// Forgets all tokens, since tokens or users were changed.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.changes += 1;
        inner.tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mimeo_manager_api::{Role, Token, User};

    use super::*;

    fn row() -> TokenRow {
        let created_at = jiff::Timestamp::UNIX_EPOCH;
        let (id, name) = ("1".to_owned(), "alice".to_owned());
        let user = User { id: id.clone(), name: name.clone(), role: Role::User, disabled: false, created_at };
        let item = Token {
            id,
            name: name.clone(),
            user: name,
            scopes: Vec::new(),
            machine: None,
            created_at,
            expires_at: None,
            last_used_at: None,
        };
        TokenRow { item, user }
    }

    #[test]
    fn a_token_that_was_read_before_a_change_is_not_kept() {
        let cache = TokenCache::default();
        let changes = cache.changes();
        cache.clear();
        cache.insert("a".to_owned(), row(), changes);
        assert_eq!(cache.get("a"), None);
        cache.insert("a".to_owned(), row(), cache.changes());
        assert_eq!(cache.get("a"), Some(row()));
        cache.clear();
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn no_more_than_its_capacity_is_kept() {
        let cache = TokenCache::default();
        for number in 0..=CAPACITY {
            cache.insert(number.to_string(), row(), 0);
        }
        assert_eq!(cache.lock().tokens.len(), 1);
    }
}
