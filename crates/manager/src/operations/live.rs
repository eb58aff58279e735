//! The operations that this manager carries out now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_manager_api::{Operation, Progress, Stage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An operation that is being carried out.
#[derive(Debug, Clone)]
pub(crate) struct LiveOperation {
    state: Arc<watch::Sender<Operation>>,
    /// Cancelled by DELETE.
    pub(crate) cancel: CancellationToken,
}

/// The operations that this manager carries out now.
#[derive(Debug, Default)]
pub(crate) struct LiveOperations {
    by_id: Mutex<HashMap<String, LiveOperation>>,
}

impl LiveOperations {
    /// Adds an operation.
    pub(crate) fn add(&self, operation: Operation) -> LiveOperation {
        let id = operation.id.clone();
        let live = LiveOperation {
            state: Arc::new(watch::Sender::new(operation)),
            cancel: CancellationToken::new(),
        };
        self.lock().insert(id, live.clone());
        live
    }

    /// Finds an operation.
    pub(crate) fn get(&self, id: &str) -> Option<LiveOperation> {
        self.lock().get(id).cloned()
    }

    /// Removes an operation that has finished, and tells those who wait for it.
    pub(crate) fn remove(&self, finished: Operation) {
        let live = self.lock().remove(&finished.id);
        if let Some(live) = live {
            live.state.send_replace(finished);
        }
    }

    /// Shows an operation as it is now, where the stored one is older.
    pub(crate) fn current(&self, stored: Operation) -> Operation {
        match self.get(&stored.id) {
            Some(live) => live.snapshot(),
            None => stored,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, LiveOperation>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveOperation {
    /// The operation as it is now.
    pub(crate) fn snapshot(&self) -> Operation {
        self.state.borrow().clone()
    }

    /// Notes that a stage has ended.
    pub(crate) fn stage_ended(&self, name: String, ms: u64) {
        self.change(|operation| {
            operation.stages.push(Stage { name, ms });
            operation.stage = None;
            operation.progress = None;
        });
    }

    /// Notes how much of the stage is done.
    pub(crate) fn progress(&self, stage: &str, progress: Progress) {
        self.change(|operation| {
            operation.stage = Some(stage.to_owned());
            operation.progress = Some(progress);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Operation)) {
        self.state.send_modify(|operation| {
            change(operation);
            operation.updated_at = Timestamp::now();
        });
    }

    /// Waits until it has finished, at most for this time. Returns the operation as it is then.
    pub(crate) async fn wait(&self, timeout: Duration) -> Operation {
        let mut state = self.state.subscribe();
        // Out of time, the operation is returned as it is.
        tokio::time::timeout(timeout, state.wait_for(|operation| operation.status.is_finished())).await.ok();
        self.snapshot()
    }
}
