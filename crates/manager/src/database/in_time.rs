//! How long the database may take. A server that does not answer any more, or that cannot be reached any more, would keep
//! requests waiting: the kernel gives a connection up only after a quarter of an hour.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// How long a statement, a commit or the turn to write may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request to the database that is given up when it takes too long.
pub(super) trait InTime<T>: Future<Output = Result<T, sqlx::Error>> + Sized {
    /// Waits for the answer at most [`TIMEOUT`].
    async fn in_time(self) -> Result<T, sqlx::Error> {
        timeout(TIMEOUT, self).await.unwrap_or_else(|_| Err(late("it has not answered in time")))
    }
}

impl<T, F: Future<Output = Result<T, sqlx::Error>>> InTime<T> for F {}

/// Waits for the lock at most [`TIMEOUT`].
pub(super) async fn lock_in_time<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, sqlx::Error> {
    timeout(TIMEOUT, mutex.lock()).await.map_err(|_| late("others have written to it for too long"))
}

fn late(why: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why.to_owned()))
}
