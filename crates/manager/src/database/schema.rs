//! Opens a database and brings its schema up to date.

use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use sqlx::Connection;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use tokio::sync::{Mutex, watch};

use super::events::ChainEnd;
use super::lock::DatabaseLock;
use super::{ACQUIRE_TIMEOUT, Address, Database, DatabaseError};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Connections that are open at most: one writes, the others read.
const MAX_CONNECTIONS: u32 = 8;

/// Settings of each SQLite connection. Write transactions choose `synchronous`.
const SQLITE_SETTINGS: [&str; 3] =
    ["PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 5000", "PRAGMA foreign_keys = ON"];

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file cannot be created.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Another manager uses it.
    #[error("another manager uses the database {address}: stop that one, or give --database another address")]
    Taken {
        /// Its address, without a password.
        address: Address,
    },
    /// It cannot be reached.
    #[error("cannot open the database {address}")]
    Connect {
        /// Its address, without a password.
        address: Address,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Its schema cannot be brought up to date, for example because a newer mimeo made it.
    #[error("cannot bring the schema of the database {address} up to date")]
    Migrate {
        /// Its address, without a password.
        address: Address,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// Its last event cannot be read.
    #[error("cannot read the database {address}")]
    Read {
        /// Its address, without a password.
        address: Address,
        /// Why.
        #[source]
        source: DatabaseReadError,
    },
}

/// The error of a read, opaque outside this crate.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseReadError(#[from] DatabaseError);

impl Database {
    /// Opens the database and brings its schema up to date.
    pub(crate) async fn open(address: &Address) -> Result<Self, OpenError> {
        create_file(address)?;
        let lock = DatabaseLock::take(address).await?;
        sqlx::any::install_default_drivers();
        let connect_error = |source| OpenError::Connect { address: address.clone(), source };
        let pool = options(address).connect(&address.url()).await.map_err(connect_error)?;
        let migrated = MIGRATIONS.run(&pool).await;
        migrated.map_err(|source| OpenError::Migrate { address: address.clone(), source })?;
        let chain_end = read_chain_end(&pool).await;
        let chain_end =
            chain_end.map_err(|error| OpenError::Read { address: address.clone(), source: error.into() })?;
        let last_event = watch::channel(chain_end.seq).0;
        Ok(Self {
            pool,
            begin: begin_statements(address),
            chain_end: Arc::new(Mutex::new(Some(chain_end))),
            last_event,
            rights: watch::channel(()).0,
            token_cache: Arc::default(),
            expiries: watch::channel(()).0,
            lock: Arc::new(lock),
        })
    }
}

async fn read_chain_end(pool: &sqlx::AnyPool) -> Result<ChainEnd, DatabaseError> {
    let mut connection = pool.acquire().await?;
    ChainEnd::read(&mut connection).await
}

/// The statements that begin write transactions.
#[derive(Debug, Clone, Copy)]
pub(super) struct BeginStatements {
    /// The commit waits until the transaction is on stable storage.
    pub(super) durable: &'static str,
    /// The commit does not wait.
    pub(super) observed: &'static str,
}

/// SQLite waits for a lock (`busy_timeout`) only where a transaction begins: one that reads first and then writes fails at
/// once if another connection writes.
fn begin_statements(address: &Address) -> BeginStatements {
    match address {
        Address::Postgres(_) => BeginStatements { durable: "BEGIN", observed: "BEGIN" },
        Address::Sqlite(_) => BeginStatements {
            durable: "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            observed: "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        },
    }
}

fn options(address: &Address) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
    match address {
        Address::Postgres(_) => {
            options.after_release(|connection, _| Box::pin(async move { answers(connection).await }))
        }
        Address::Sqlite(_) => options
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for setting in SQLITE_SETTINGS {
                        sqlx::query(setting).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .after_release(|connection, _| Box::pin(is_reusable(connection))),
    }
}

/// Whether a connection still answers. One that does not would keep its place among the connections until the kernel gives it
/// up.
async fn answers(connection: &mut sqlx::AnyConnection) -> Result<bool, sqlx::Error> {
    tokio::time::timeout(ACQUIRE_TIMEOUT, connection.ping())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
    Ok(true)
}

/// Whether a SQLite connection is in no transaction. SQLite undoes a transaction by itself if the disk is full. `ROLLBACK`
/// then fails, and sqlx takes the transaction for one that goes on: what the connection commits next, it would not commit.
async fn is_reusable(connection: &mut sqlx::AnyConnection) -> Result<bool, sqlx::Error> {
    // Most have made a single query. A question to the connection's thread would cost as much again.
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // The answer comes after the rollback of a transaction that was dropped.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Creates the file of a new SQLite database, which only its owner may read: it holds digests of tokens, and environments.
fn create_file(address: &Address) -> Result<(), OpenError> {
    let Some(path) = address.file() else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map(drop).map_err(|source| OpenError::Create { path: path.to_owned(), source })
}
