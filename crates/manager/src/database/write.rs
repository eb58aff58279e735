//! A write transaction.

use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::MutexGuard;

use super::events::{ChainEnd, EventDraft};
use super::in_time::InTime as _;
use super::{Database, DatabaseError};

/// A write transaction. Dropping it without a commit undoes it.
pub(crate) struct Write<'a> {
    transaction: Transaction<'static, Any>,
    /// The end of the chain that is stored; none while that is unknown.
    chain_end: MutexGuard<'a, Option<ChainEnd>>,
    /// The end of the chain once this transaction is committed.
    new_end: ChainEnd,
    database: &'a Database,
    changes_rights: bool,
    changes_tokens: bool,
    changes_expiries: bool,
}

impl<'a> Write<'a> {
    pub(super) async fn begin(
        mut transaction: Transaction<'static, Any>,
        mut chain_end: MutexGuard<'a, Option<ChainEnd>>,
        database: &'a Database,
    ) -> Result<Self, DatabaseError> {
        let new_end = match &*chain_end {
            Some(end) => end.clone(),
            // The connection was lost during a commit, which may have happened or not.
            None => {
                let end = ChainEnd::read(&mut transaction).await?;
                database.last_event.send_replace(end.seq);
                chain_end.insert(end).clone()
            }
        };
        let (changes_rights, changes_tokens, changes_expiries) = (false, false, false);
        Ok(Self {
            transaction,
            chain_end,
            new_end,
            database,
            changes_rights,
            changes_tokens,
            changes_expiries,
        })
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Notes that this transaction takes rights from users or tokens.
    pub(super) fn change_rights(&mut self) {
        self.changes_rights = true;
        self.changes_tokens = true;
    }

    /// Notes that this transaction removes tokens with which no request goes on.
    pub(super) fn change_tokens(&mut self) {
        self.changes_tokens = true;
    }

    /// Notes that this transaction changes when machines expire.
    pub(super) fn change_expiries(&mut self) {
        self.changes_expiries = true;
    }

    /// Records an event.
    pub(crate) async fn event(&mut self, draft: EventDraft<'_>) -> Result<(), DatabaseError> {
        let event = self.new_end.follow(draft);
        if let Err(error) = super::events::insert(&mut self.transaction, &event).await {
            // A commit that was given up may have happened after the end was read: it is read again.
            *self.chain_end = None;
            return Err(match error {
                DatabaseError::Duplicate => {
                    DatabaseError::Sql(sqlx::Error::Protocol("the next event is there already".to_owned()))
                }
                other => other,
            });
        }
        self.new_end = ChainEnd { seq: event.seq, digest: event.digest };
        Ok(())
    }

    /// Makes everything durable, and wakes up those who wait for events, and those whose rights may have ended.
    pub(crate) async fn commit(mut self) -> Result<(), DatabaseError> {
        // It stays unknown if the commit fails, or is abandoned.
        let before = self.chain_end.take();
        self.transaction.commit().in_time().await?;
        let seq = self.new_end.seq;
        *self.chain_end = Some(self.new_end);
        if self.changes_tokens {
            self.database.token_cache.clear();
        }
        if self.changes_rights {
            self.database.rights.send_replace(());
        }
        if self.changes_expiries {
            self.database.expiries.send_replace(());
        }
        if before.is_none_or(|before| before.seq != seq) {
            self.database.last_event.send_replace(seq);
        }
        Ok(())
    }
}
