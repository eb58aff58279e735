//! An imitation of [`crate::guest`] without a processor.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::guest::{COUNTER, GREETING, ROUND, TICK};
use crate::memory::GuestMemory;

/// Counts per step.
const COUNTS_PER_STEP: u64 = ROUND / 4;
/// The pause after each step.
const STEP_PAUSE: Duration = Duration::from_millis(1);

/// The guest, running or paused. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Imitation(Arc<(Mutex<bool>, Condvar)>);

impl Imitation {
    /// A paused guest, with the counter in its memory.
    pub(crate) fn paused(memory: Arc<GuestMemory>) -> Self {
        let guest = Self(Arc::new((Mutex::new(false), Condvar::new())));
        let inner = guest.clone();
        thread::spawn(move || inner.count(&memory));
        guest
    }

    /// A guest that boots.
    pub(crate) fn booted(memory: Arc<GuestMemory>) -> Self {
        print(GREETING);
        let guest = Self::paused(memory);
        guest.set_running(true);
        guest
    }

    /// Resumes or pauses it. A paused guest does nothing once this has returned.
    pub(crate) fn set_running(&self, is_running: bool) {
        *self.lock() = is_running;
        self.0.1.notify_all();
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, memory: &GuestMemory) {
        loop {
            let mut is_running = self.lock();
            while !*is_running {
                is_running = self.0.1.wait(is_running).unwrap_or_else(PoisonError::into_inner);
            }
            for _ in 0..COUNTS_PER_STEP {
                let count = memory.read(COUNTER) + 1;
                memory.write(COUNTER, count);
                if count.is_multiple_of(ROUND) {
                    print(&[TICK]);
                }
            }
            drop(is_running);
            thread::sleep(STEP_PAUSE);
        }
    }
}

/// Prints on the serial port, and ignores a closed output.
fn print(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).unwrap_or_default();
}
