//! A write transaction.

use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::{MutexGuard, watch};

use super::DatabaseError;
use super::events::{ChainEnd, EventDraft};

/// A write transaction. Dropping it without a commit undoes it.
pub(crate) struct Write<'a> {
    transaction: Transaction<'static, Any>,
    chain_end: MutexGuard<'a, ChainEnd>,
    /// The end of the chain once this transaction is committed.
    new_end: ChainEnd,
    last_event: &'a watch::Sender<i64>,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        transaction: Transaction<'static, Any>,
        chain_end: MutexGuard<'a, ChainEnd>,
        last_event: &'a watch::Sender<i64>,
    ) -> Self {
        let new_end = chain_end.clone();
        Self { transaction, chain_end, new_end, last_event }
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Records an event.
    pub(crate) async fn event(&mut self, draft: EventDraft<'_>) -> Result<(), DatabaseError> {
        let event = self.new_end.follow(draft);
        super::events::insert(&mut self.transaction, &event).await?;
        self.new_end = ChainEnd { seq: event.seq, digest: event.digest };
        Ok(())
    }

    /// Makes everything durable, and wakes up those who wait for events.
    pub(crate) async fn commit(mut self) -> Result<(), DatabaseError> {
        self.transaction.commit().await?;
        let seq = self.new_end.seq;
        if self.chain_end.seq != seq {
            *self.chain_end = self.new_end;
            self.last_event.send_replace(seq);
        }
        Ok(())
    }
}
