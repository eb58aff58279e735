//! How long the database may take. A server that does not answer any more, or that cannot be reached any more, would keep
//! requests waiting: the kernel gives a connection up only after a quarter of an hour.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// How long a statement, a commit or the turn to write may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the database is asked, and may take only so long.
pub(super) trait InTime<T>: Future<Output = Result<T, sqlx::Error>> + Sized {
    /// Completes in time, or fails.
    async fn in_time(self) -> Result<T, sqlx::Error> {
        timeout(TIMEOUT, self).await.unwrap_or_else(|_| Err(late("it has not answered in time")))
    }
}

impl<T, F: Future<Output = Result<T, sqlx::Error>>> InTime<T> for F {}

/// Takes the lock in time, or fails.
pub(super) async fn lock_in_time<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, sqlx::Error> {
    timeout(TIMEOUT, mutex.lock()).await.map_err(|_| late("others have written to it for too long"))
}

fn late(why: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why.to_owned()))
}
