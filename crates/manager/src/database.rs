//! The manager's records, in SQLite or PostgreSQL.
//!
//! One manager uses a database, so its writes are serialised here. Each write transaction may record events,
//! which form a chain (`events`).

mod address;
mod events;
mod guest_addresses;
mod idempotency;
mod in_time;
mod list;
mod lock;
mod machines;
mod operations;
mod query_builder;
mod quotas;
mod schema;
mod snapshots;
mod token_cache;
mod tokens;
mod users;
mod volumes;
mod write;

use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyPool;
use tokio::sync::{Mutex, watch};

pub use address::{Address, AddressError};
pub(crate) use events::hex;
pub(crate) use events::{EventDraft, EventFilter, MANAGER, resource};
pub(crate) use idempotency::KeptAnswer;
pub(crate) use list::{After, Sort};
pub(crate) use machines::{Desired, MachineFilter, MachineRow};
pub(crate) use operations::{OperationFilter, OperationRow};
pub(crate) use query_builder::QueryBuilder;
pub use schema::OpenError;
pub(crate) use snapshots::{SnapshotFilter, place_of_snapshot};
pub(crate) use tokens::TokenRow;
pub(crate) use volumes::{VolumeOwners, VolumeRow};
pub(crate) use write::Write;

use events::ChainEnd;
use in_time::{InTime as _, lock_in_time};
use lock::DatabaseLock;
use schema::BeginStatements;
use token_cache::TokenCache;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The codes of a full disk: `SQLITE_FULL`, and PostgreSQL's `disk_full`.
const DISK_FULL: [&str; 2] = ["13", "53100"];

/// The manager's records.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pool: AnyPool,
    begin: BeginStatements,
    /// The last event, where it is known. The holder of the lock may write.
    chain_end: Arc<Mutex<Option<ChainEnd>>>,
    last_event: watch::Sender<i64>,
    /// Notified when tokens or users were changed.
    rights: watch::Sender<()>,
    token_cache: Arc<TokenCache>,
    /// Notified when machines expire at other times than before.
    expiries: watch::Sender<()>,
    lock: Arc<DatabaseLock>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// A record with the same key exists.
    #[error("a record with the same key exists")]
    Duplicate,
    /// A user's quota would be exceeded.
    #[error(transparent)]
    Quota(quotas::QuotaExceeded),
    /// A stored document cannot be parsed.
    #[error("cannot parse {what} {id} in the database")]
    Parse {
        /// The kind of record.
        what: &'static str,
        /// Its key.
        id: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// There is no space for what is to be recorded.
    #[error("the disk of the database is full")]
    Full(#[source] sqlx::Error),
    /// The database failed, or cannot be reached.
    #[error("cannot use the database")]
    Sql(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(database) if database.is_unique_violation() => Self::Duplicate,
            Some(database) if database.code().is_some_and(|code| DISK_FULL.contains(&&*code)) => {
                Self::Full(error)
            }
            _ => Self::Sql(error),
        }
    }
}

impl Database {
    /// Checks that the database answers.
    pub(crate) async fn check(&self) -> Result<(), DatabaseError> {
        sqlx::query("SELECT 1").execute(&self.pool).in_time().await?;
        Ok(())
    }

    /// Returns the number of the last event, which changes with each new one.
    pub(crate) fn last_event(&self) -> watch::Receiver<i64> {
        self.last_event.subscribe()
    }

    /// Notified when tokens or users were changed or removed: the sender of a request may have lost the right to it.
    pub(crate) fn rights_changes(&self) -> watch::Receiver<()> {
        self.rights.subscribe()
    }

    /// Notified when machines expire at other times than before.
    pub(crate) fn expiry_changes(&self) -> watch::Receiver<()> {
        self.expiries.subscribe()
    }

    /// Begins a write transaction. Once committed, it survives a power failure. Dropping it without a commit undoes it.
    pub(crate) async fn write(&self) -> Result<Write<'_>, DatabaseError> {
        self.begin(self.begin.durable).await
    }

    /// Begins a write transaction for what was observed. With SQLite its commit does not wait for the disk: it survives the
    /// manager, but a power failure within a moment may undo it, with all that follow it. The machines have ended then, too,
    /// and the next manager observes that.
    pub(crate) async fn write_observed(&self) -> Result<Write<'_>, DatabaseError> {
        self.begin(self.begin.observed).await
    }

    async fn begin(&self, statement: &'static str) -> Result<Write<'_>, DatabaseError> {
        let chain_end = lock_in_time(&self.chain_end).await?;
        let transaction = self.pool.begin_with(statement).in_time().await?;
        Write::begin(transaction, chain_end, self).await
    }

    /// Waits until another manager has taken the database over, while this one could not reach it.
    pub(crate) async fn taken_over(&self) {
        self.lock.taken_over().await;
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        // One that does not answer any more is closed by the kernel.
        tokio::time::timeout(ACQUIRE_TIMEOUT, self.pool.close()).await.ok();
    }
}

/// The JSON of a record that consists of strings, numbers, and lists and maps of them: serialization cannot fail.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The name of an enum's variant, as in JSON.
fn name_of<T: serde::Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}

fn parse<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
    id: &str,
) -> Result<T, DatabaseError> {
    serde_json::from_str(text).map_err(|source| DatabaseError::Parse { what, id: id.to_owned(), source })
}
