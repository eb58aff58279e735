//! The guest's `flock` locks. They are locks of the host's descriptors, so processes on the host and in other machines
//! respect them, and a closed descriptor releases its lock.
//!
//! A request that has to wait is stored here and tried again: a thread that waited for it in the host's kernel could
//! not be interrupted, and would be missing for other requests.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::handles::Handle;
use super::limits::{LOCK_RETRY, MAX_WAITING_LOCKS, REMEMBERED_INTERRUPTS};

/// The result of a lock request that waited, with the id of the request.
pub(super) type Granted = (u64, Result<(), Errno>);

/// The requests that wait for a lock.
#[derive(Debug, Default)]
pub(super) struct Locks {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Ids of interrupted requests that were not found: another thread may be about to store them.
    interrupted: VecDeque<u64>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    unique: u64,
    handle: Arc<Handle>,
    operation: FlockOperation,
}

impl Waiting {
    /// The result, unless the request still has to wait.
    fn attempt(&self) -> Option<Result<(), Errno>> {
        match self.handle.file().and_then(|file| flock(file, self.operation)) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => None,
            result => Some(result),
        }
    }
}

impl Locks {
    /// Stores a request until [`Locks::next_granted`] returns its result.
    pub(super) fn wait(
        &self,
        unique: u64,
        handle: Arc<Handle>,
        operation: FlockOperation,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        if state.interrupted.contains(&unique) {
            return Err(Errno::INTR);
        }
        if state.waiting.len() >= MAX_WAITING_LOCKS {
            return Err(Errno::NOLCK);
        }
        state.waiting.push(Waiting { unique, handle, operation });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Removes a request that waits; returns whether it did.
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        let mut state = self.state();
        if let Some(at) = state.waiting.iter().position(|waiting| waiting.unique == unique) {
            state.waiting.swap_remove(at);
            return true;
        }
        state.interrupted.push_back(unique);
        if state.interrupted.len() > REMEMBERED_INTERRUPTS {
            state.interrupted.pop_front();
        }
        false
    }

    /// Has waiting requests tried again: the guest may have released a lock.
    pub(super) fn retry(&self) {
        self.changed.notify_one();
    }

    /// Waits until a request that waits has its result. `None` after [`Locks::close`].
    pub(super) fn next_granted(&self) -> Option<Granted> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(granted) = state.attempt_all() {
                return Some(granted);
            }
            state = self.wait_for_change(state);
        }
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.waiting.is_empty() {
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Processes of the host release locks without notice.
        let waited = self.changed.wait_timeout(state, LOCK_RETRY);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Forgets all requests, and ends the thread that waits for results.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tries the requests in the order of their arrival; returns the first result.
    fn attempt_all(&mut self) -> Option<Granted> {
        let done = self.waiting.iter().enumerate();
        let (at, result) = done.filter_map(|(at, waiting)| Some((at, waiting.attempt()?))).next()?;
        Some((self.waiting.remove(at).unique, result))
    }
}
