//! The operations that this manager carries out now.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mimeo_manager_api::{Machine, Operation, OperationKind, Progress, Resource, ResourceKind, Stage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An operation that is being carried out.
#[derive(Debug, Clone)]
pub(crate) struct LiveOperation {
    state: Arc<watch::Sender<Operation>>,
    /// The machine as it was recorded when the operation finished.
    finished_machine: Arc<OnceLock<Machine>>,
    /// The owner of the resource.
    pub(crate) owner: Arc<str>,
    /// The machine that no other operation changes meanwhile.
    pub(crate) machine: Option<Arc<str>>,
    /// Cancelled by DELETE.
    pub(crate) cancel: CancellationToken,
}

/// The operations that this manager carries out now.
#[derive(Debug, Default)]
pub(crate) struct LiveOperations {
    by_id: Mutex<HashMap<String, LiveOperation>>,
    announced: Mutex<HashSet<String>>,
}

/// An operation that is being recorded, and begins after that.
#[derive(Debug)]
pub(crate) struct Announced<'a> {
    operations: &'a LiveOperations,
    id: String,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.operations.lock_announced().remove(&self.id);
    }
}

impl LiveOperations {
    /// Adds an operation.
    pub(crate) fn add(&self, operation: Operation, owner: &str, machine: Option<&str>) -> LiveOperation {
        let id = operation.id.clone();
        let live = LiveOperation {
            owner: owner.into(),
            machine: machine.map(Into::into),
            state: Arc::new(watch::Sender::new(operation)),
            finished_machine: Arc::default(),
            cancel: CancellationToken::new(),
        };
        self.lock().insert(id, live.clone());
        live
    }

    /// Announces an operation that is about to be recorded, until the result is dropped.
    pub(crate) fn announce(&self, id: &str) -> Announced<'_> {
        self.lock_announced().insert(id.to_owned());
        Announced { operations: self, id: id.to_owned() }
    }

    /// Whether an operation is carried out, or is about to begin.
    pub(crate) fn knows(&self, id: &str) -> bool {
        // In this order: an announcement ends when the operation has begun.
        self.lock_announced().contains(id) || self.lock().contains_key(id)
    }

    /// Finds an operation.
    pub(crate) fn get(&self, id: &str) -> Option<LiveOperation> {
        self.lock().get(id).cloned()
    }

    /// Whether an operation on this resource is being carried out.
    pub(crate) fn uses(&self, resource: &Resource) -> bool {
        self.lock().values().any(|live| live.state.borrow().resource == *resource)
    }

    /// Removes an operation that has finished, and tells those who wait for it; `machine` is the one that it has changed.
    pub(crate) fn remove(&self, finished: Operation, machine: Option<Machine>) {
        let live = self.lock().remove(&finished.id);
        if let Some(live) = live {
            if let Some(machine) = machine {
                live.finished_machine.get_or_init(|| machine);
            }
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

    fn lock_announced(&self) -> MutexGuard<'_, HashSet<String>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether it changes nothing but this machine.
    pub(crate) fn is_on_machine(&self, machine: &str) -> bool {
        let resource = &self.state.borrow().resource;
        resource.kind == ResourceKind::Machine && resource.id == machine
    }

    /// The machine that it creates.
    pub(crate) fn created_machine(&self) -> Option<Arc<str>> {
        let is_creation = self.state.borrow().kind == OperationKind::Create;
        self.machine.clone().filter(|_| is_creation)
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

    /// Shows a part of the result before the operation has finished.
    pub(crate) fn show_result(&self, result: serde_json::Value) {
        self.change(|operation| operation.result = Some(result));
    }

    /// Names the resource, which was unknown when the operation began.
    pub(crate) fn name_resource(&self, id: &str) {
        self.change(|operation| id.clone_into(&mut operation.resource.id));
    }

    fn change(&self, change: impl FnOnce(&mut Operation)) {
        self.state.send_modify(|operation| {
            change(operation);
            operation.updated_at = Timestamp::now();
        });
    }

    /// The machine as it was recorded when the operation finished.
    pub(crate) fn finished_machine(&self) -> Option<Machine> {
        self.finished_machine.get().cloned()
    }

    /// Waits until it has finished, at most for this time. Returns the operation as it is then.
    pub(crate) async fn wait(&self, timeout: Duration) -> Operation {
        let mut state = self.state.subscribe();
        // Out of time, the operation is returned as it is.
        tokio::time::timeout(timeout, state.wait_for(|operation| operation.status.is_finished())).await.ok();
        self.snapshot()
    }
}
