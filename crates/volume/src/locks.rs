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
    /// In the order of their arrival.
    waiting: Vec<Waiting>,
    /// The number of the last request that was stored.
    last: u64,
    /// The number of the request that was tried last in this round.
    tried: u64,
    /// The request `tried` is being tried: only the thread that tries it may remove it.
    is_trying: bool,
    /// Ids of requests that no longer wait because their file was closed.
    ended: VecDeque<u64>,
    /// Ids of interrupted requests that were not found: another thread may be about to store them.
    interrupted: VecDeque<u64>,
    /// Another round is needed now.
    retry: bool,
    closed: bool,
}

#[derive(Debug, Clone)]
struct Waiting {
    number: u64,
    unique: u64,
    handle: Arc<Handle>,
    operation: FlockOperation,
    /// It was interrupted, or its file was closed, while it was being tried.
    ended: bool,
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
        if state.waiting.len() + state.ended.len() >= MAX_WAITING_LOCKS {
            return Err(Errno::NOLCK);
        }
        state.last += 1;
        let number = state.last;
        state.waiting.push(Waiting { number, unique, handle, operation, ended: false });
        state.retry = true;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Removes a request that waits; returns whether it did. A request that is being tried has its result from
    /// [`Locks::next_granted`].
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        let mut state = self.state();
        let found = state.waiting.iter().find(|waiting| waiting.unique == unique).map(|found| found.number);
        if let Some(number) = found {
            let removed = state.end_if(|waiting| waiting.number == number);
            drop(state);
            return !removed.is_empty();
        }
        state.interrupted.push_back(unique);
        if state.interrupted.len() > REMEMBERED_INTERRUPTS {
            state.interrupted.pop_front();
        }
        false
    }

    /// Ends the requests that wait with this handle, which was closed: they would hold its descriptor open.
    pub(super) fn end(&self, handle: &Arc<Handle>) {
        self.end_if(|waiting| Arc::ptr_eq(&waiting.handle, handle));
    }

    /// Ends all requests.
    pub(super) fn end_all(&self) {
        self.end_if(|_| true);
    }

    fn end_if(&self, is_affected: impl Fn(&Waiting) -> bool) {
        let mut state = self.state();
        let removed = state.end_if(is_affected);
        if removed.is_empty() {
            return;
        }
        state.ended.extend(removed.iter().map(|waiting| waiting.unique));
        state.retry = true;
        drop(state);
        self.changed.notify_one();
        // A descriptor is closed without the mutex: that may take long.
        drop(removed);
    }

    /// Has waiting requests tried again: the guest may have released a lock.
    pub(super) fn retry(&self) {
        let mut state = self.state();
        if !state.waiting.is_empty() {
            state.retry = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits until a request that waits has its result. `None` after [`Locks::close`].
    pub(super) fn next_granted(&self) -> Option<Granted> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(unique) = state.ended.pop_front() {
                return Some((unique, Err(Errno::INTR)));
            }
            let Some(waiting) = state.next_to_try() else {
                state = self.wait_for_change(state);
                continue;
            };
            drop(state);
            // This is done without the mutex: a network filesystem waits for its server.
            let (number, result) = (waiting.number, waiting.attempt());
            drop(waiting);
            state = self.state();
            if let Some((removed, result)) = state.complete_attempt(number, result) {
                drop(state);
                return Some((removed.unique, result));
            }
        }
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let is_unchanged = |state: &mut State| !state.retry && !state.closed;
        let mut state = if state.waiting.is_empty() {
            self.changed.wait_while(state, is_unchanged).unwrap_or_else(PoisonError::into_inner)
        } else {
            // Processes of the host release locks without notice.
            let waited = self.changed.wait_timeout_while(state, LOCK_RETRY, is_unchanged);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        (state.retry, state.tried) = (false, 0);
        state
    }

    /// Forgets all requests, and ends the thread that waits for results.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
    }

    /// Whether a request waits for its lock or for its reply.
    #[cfg(test)]
    pub(super) fn is_any_waiting(&self) -> bool {
        let state = self.state();
        !state.waiting.is_empty() || !state.ended.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next request of this round, which is now being tried.
    fn next_to_try(&mut self) -> Option<Waiting> {
        let next = self.waiting.iter().find(|waiting| waiting.number > self.tried)?.clone();
        (self.tried, self.is_trying) = (next.number, true);
        Some(next)
    }

    /// Removes the request if it has a result, and returns both.
    fn complete_attempt(
        &mut self,
        number: u64,
        result: Option<Result<(), Errno>>,
    ) -> Option<(Waiting, Result<(), Errno>)> {
        self.is_trying = false;
        let at = self.waiting.iter().position(|waiting| waiting.number == number)?;
        let result = result.or_else(|| self.waiting[at].ended.then_some(Err(Errno::INTR)))?;
        Some((self.waiting.remove(at), result))
    }

    /// Removes and returns requests. One that is being tried is only marked.
    fn end_if(&mut self, is_affected: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let being_tried = self.is_trying.then_some(self.tried);
        let may_remove = |waiting: &mut Waiting| {
            if !is_affected(waiting) {
                return false;
            }
            waiting.ended = true;
            being_tried != Some(waiting.number)
        };
        self.waiting.extract_if(.., may_remove).collect()
    }
}
