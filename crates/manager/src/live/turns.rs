//! Whose turn it is to change a machine, or to create or remove a volume: one operation at a time, in the order in which they
//! came.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

type Turn = tokio::sync::Mutex<()>;

/// The machines that are being changed.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    by_machine: Mutex<HashMap<String, Weak<Turn>>>,
}

impl Turns {
    /// Waits until no other operation changes the machine. The turn ends when the result is dropped.
    pub(crate) async fn take(&self, machine: &str) -> OwnedMutexGuard<()> {
        self.turn(machine).lock_owned().await
    }

    /// Takes the turn if nobody has it.
    pub(crate) fn try_take(&self, machine: &str) -> Option<OwnedMutexGuard<()>> {
        self.turn(machine).try_lock_owned().ok()
    }

    fn turn(&self, machine: &str) -> Arc<Turn> {
        let mut all = self.by_machine.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(machine).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        all.insert(machine.to_owned(), Arc::downgrade(&turn));
        turn
    }
}
