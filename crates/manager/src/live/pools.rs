//! The servers of the pools, as they were last seen.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mimeo_engine::cause::chain;
use mimeo_engine::snapshot_server::{self, Reservation, ServeRecord};
use tokio::process::Child;
use tokio::sync::Notify;

/// The servers that keep pools, as they were last seen.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    servers: Mutex<HashMap<String, ServeRecord>>,
    starting: Mutex<HashMap<String, ServerStart>>,
    /// The ids of servers that were told to end.
    ending: Mutex<HashSet<String>>,
    changed: Notify,
}

/// A server's process that was started and does not serve yet, or has failed.
#[derive(Debug)]
pub(crate) enum ServerStart {
    /// It runs.
    Running(Child),
    /// It has failed.
    Failed {
        /// Why.
        error: String,
        /// When.
        at: Instant,
    },
}

impl Pools {
    /// Has the pools compared with what was requested now.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits for [`wake`](Self::wake).
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The ids of servers that were told to end.
    pub(crate) fn ending(&self) -> MutexGuard<'_, HashSet<String>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers, by their snapshots.
    pub(crate) fn servers(&self) -> MutexGuard<'_, HashMap<String, ServeRecord>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes that do not serve yet, by their snapshots.
    pub(crate) fn starting(&self) -> MutexGuard<'_, HashMap<String, ServerStart>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves up to `count` clones of the snapshot's pool, if it has one.
    pub(crate) async fn reserve(&self, snapshot: &str, count: usize) -> Option<Reservation> {
        let server = self.servers().get(snapshot).cloned()?;
        match snapshot_server::reserve(&server, count).await {
            Ok(reservation) => Some(reservation).filter(|reservation| !reservation.ids.is_empty()),
            Err(error) => {
                tracing::info!(component = "pools", error = chain(&error), "cannot use a pool");
                self.servers().remove(snapshot);
                self.wake();
                None
            }
        }
    }
}
