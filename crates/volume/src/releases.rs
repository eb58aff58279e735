//! The `RELEASE` requests that workers have received and not completed.
//!
//! The guest does not wait for a `RELEASE`, so it may try to lock a file whose last holder has closed it while the
//! worker that closes it on the host is not done.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Releases {
    state: Mutex<State>,
    completed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    /// The number of the last request.
    last: u64,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    node: u64,
}

/// A `RELEASE` that is completed when this is dropped.
#[derive(Debug)]
pub(super) struct ReleaseGuard<'a> {
    releases: &'a Releases,
    number: u64,
}

impl Releases {
    /// Records a `RELEASE` of an open file of `node`.
    pub(super) fn begin(&self, node: u64) -> ReleaseGuard<'_> {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.pending.push(Pending { number, node });
        ReleaseGuard { releases: self, number }
    }

    /// Waits until the requests for `node` that have begun are completed. They never wait for others.
    pub(super) fn wait_for_pending(&self, node: u64) {
        let state = self.state();
        let last = state.last;
        let is_pending = |state: &mut State| {
            state.pending.iter().any(|pending| pending.node == node && pending.number <= last)
        };
        drop(self.completed.wait_while(state, is_pending).unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReleaseGuard<'_> {
    fn drop(&mut self) {
        self.releases.state().pending.retain(|pending| pending.number != self.number);
        self.releases.completed.notify_all();
    }
}
