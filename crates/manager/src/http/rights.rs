//! The rights of a request's sender, which may end while the request goes on: the token expires or is removed, or its user
//! is disabled, removed or given another role.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::Timestamp;
use tokio::sync::watch;

use super::authenticate::{check_again, expired};
use super::{ApiError, Caller, Result};
use crate::live::UserSlot;
use crate::{App, DATABASE_RETRY_DELAY};

/// Time between two looks into the database, for what was changed there by others than this manager.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// The rights of a request's sender. What goes on after the answer has begun holds them.
#[derive(Clone)]
pub(crate) struct Rights {
    app: App,
    caller: Caller,
    /// What was changed after the sender was authenticated is unseen.
    changes: watch::Receiver<()>,
    /// The request is one of the user's until all is done. The exempt ones have none.
    _slot: Option<Arc<UserSlot>>,
}

impl<S: Sync> FromRequestParts<S> for Rights {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        // `authorize` has put it there, on every route that is not public.
        parts.extensions.get::<Self>().cloned().ok_or_else(super::authenticate::unauthenticated)
    }
}

impl Rights {
    /// The rights of a caller; `changes` is from before the caller was authenticated.
    pub(super) fn new(
        app: &App,
        caller: &Caller,
        changes: watch::Receiver<()>,
        slot: Option<UserSlot>,
    ) -> Self {
        Self { app: app.clone(), caller: caller.clone(), changes, _slot: slot.map(Arc::new) }
    }

    /// Does `work` unless the rights end before; returns why they have ended.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            why = self.ended() => Err(why),
        }
    }

    /// Completes when the rights have ended, with the reason. A database that fails ends none: it is asked again.
    pub(crate) async fn ended(&self) -> ApiError {
        if self.caller.token.is_none() {
            return std::future::pending().await;
        }
        let mut changes = self.changes.clone();
        let mut pause = POLL_INTERVAL;
        loop {
            tokio::select! {
                // The sender lives as long as the app.
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause.min(self.time_left())) => {}
            }
            pause = match self.check().await {
                Ok(()) => POLL_INTERVAL,
                Err(error) if matches!(error.problem().status, 401 | 403) => return error,
                Err(_) => DATABASE_RETRY_DELAY,
            };
        }
    }

    /// Refuses a caller whose rights have ended since the caller was authenticated.
    pub(crate) async fn check_changes(&self) -> Result<()> {
        let has_expired = self.caller.expires_at.is_some_and(|time| time <= Timestamp::now());
        // An error means that the app has ended.
        if has_expired || self.changes.has_changed().unwrap_or(false) { self.check().await } else { Ok(()) }
    }

    /// Refuses a caller whose rights have ended.
    pub(crate) async fn check(&self) -> Result<()> {
        if self.caller.expires_at.is_some_and(|time| time <= Timestamp::now()) {
            return Err(expired());
        }
        check_again(&self.app, &self.caller).await
    }

    fn time_left(&self) -> Duration {
        let left = self.caller.expires_at.map(|time| time.duration_since(Timestamp::now()));
        // One that is negative is over.
        left.map_or(POLL_INTERVAL, |left| left.try_into().unwrap_or_default())
    }
}
