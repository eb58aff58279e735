//! Which tokens were used: recorded at most once a minute each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_manager_api::Token;

use crate::App;

/// How exactly the last use of a token is recorded.
const PRECISION: Duration = Duration::from_secs(60);

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

    fn take(&self) -> HashMap<String, Timestamp> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records the uses of tokens from time to time, until the manager ends.
pub(crate) async fn record_uses(app: App) {
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(PRECISION) => false,
            () = app.end().cancelled() => true,
        };
        if let Err(error) = record(&app).await {
            tracing::warn!(
                component = "tokens",
                error = crate::chain::chain(&error),
                "cannot record the use of tokens"
            );
        }
        if is_last {
            return;
        }
    }
}

async fn record(app: &App) -> Result<(), crate::database::DatabaseError> {
    let used = app.tokens_used().take();
    if used.is_empty() {
        return Ok(());
    }
    let mut write = app.database().write().await?;
    for (token, time) in used {
        write.mark_token_used(&token, time.as_microsecond()).await?;
    }
    write.commit().await
}
