//! One manager at a time uses a database.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::schema::OpenError;
use super::{ACQUIRE_TIMEOUT, Address};
use crate::file_lock;

/// The key of the advisory lock on a PostgreSQL server: "mimeo".
const KEY: i64 = 0x6d_69_6d_65_6f;
/// How long a manager waits for the lock of one that has ended: the server may notice later.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without it the server would keep the lock of a manager that it cannot reach any more for hours.
const NOTICE_LOSS: &str = "SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 7000";
/// Pause between two attempts to take the lock.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Pause between two looks at the connection that holds the lock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The lock of a database. The kernel, or the server, releases it however the manager ends.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    /// The lock is on this file, or a task has the session that holds it.
    _file: Option<File>,
    _task: Option<DropGuard>,
    /// Cancelled when another manager has taken the lock.
    taken_over: CancellationToken,
}

impl DatabaseLock {
    /// Takes the lock.
    pub(super) async fn take(address: &Address) -> Result<Self, OpenError> {
        let taken_over = CancellationToken::new();
        let (file, task) = match address {
            Address::Sqlite(path) => (Some(lock_file(address, path).await?), None),
            Address::Postgres(url) => {
                let session = wait_for_session(url).await;
                let session =
                    session.map_err(|source| OpenError::Connect { address: address.clone(), source })?;
                let session = session.ok_or_else(|| OpenError::Taken { address: address.clone() })?;
                let end = CancellationToken::new();
                let hold = hold_session(url.clone(), session, taken_over.clone());
                tokio::spawn(end.clone().run_until_cancelled_owned(hold));
                (None, Some(end.drop_guard()))
            }
        };
        Ok(Self { _file: file, _task: task, taken_over })
    }

    /// Waits until another manager has taken the lock.
    pub(super) async fn taken_over(&self) {
        self.taken_over.cancelled().await;
    }
}

/// Locks a file beside that of the database. SQLite's own locks on its file are of another kind, and closing the file would
/// release them.
async fn lock_file(address: &Address, path: &Path) -> Result<File, OpenError> {
    let path = beside(path);
    match file_lock::lock(&path).await {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(OpenError::Taken { address: address.clone() }),
        Err(source) => Err(OpenError::Create { path, source }),
    }
}

/// The lock's file. A file that has several paths has one lock.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    name.into()
}

/// Opens a session that holds the lock; `None` if another manager's does.
async fn wait_for_session(url: &str) -> Result<Option<PgConnection>, sqlx::Error> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        match open_session(url).await? {
            None if Instant::now() < deadline => sleep(RETRY_DELAY).await,
            session => return Ok(session),
        }
    }
}

async fn open_session(url: &str) -> Result<Option<PgConnection>, sqlx::Error> {
    let open = async {
        let mut session = PgConnection::connect(url).await?;
        session.execute(NOTICE_LOSS).await?;
        let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(KEY);
        let is_locked: bool = query.fetch_one(&mut session).await?;
        Ok(is_locked.then_some(session))
    };
    timeout(ACQUIRE_TIMEOUT, open).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Holds the session. When its connection is lost, the lock is lost with it, and is taken again once the server is back.
async fn hold_session(url: String, mut session: PgConnection, taken_over: CancellationToken) {
    loop {
        while matches!(timeout(ACQUIRE_TIMEOUT, session.ping()).await, Ok(Ok(()))) {
            sleep(CHECK_INTERVAL).await;
        }
        tracing::warn!(component = "database", "the session that locks the database was lost");
        drop(session);
        session = loop {
            match wait_for_session(&url).await {
                Ok(Some(session)) => break session,
                Ok(None) => return taken_over.cancel(),
                Err(_) => sleep(CHECK_INTERVAL).await,
            }
        };
        tracing::info!(component = "database", "the database is locked again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_one_manager_whatever_its_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, link) = (dir.path().join("a.db"), dir.path().join("link.db"));
        std::fs::write(&path, "").expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let first = DatabaseLock::take(&Address::Sqlite(path.clone())).await.expect("the lock");
        let second = DatabaseLock::take(&Address::Sqlite(link)).await;
        assert!(matches!(second, Err(OpenError::Taken { .. })), "{second:?}");
        drop(first);
        DatabaseLock::take(&Address::Sqlite(path)).await.expect("the lock again");
    }
}
