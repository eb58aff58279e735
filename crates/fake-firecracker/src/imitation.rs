//! An imitation of [`crate::guest`] without a processor.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::guest::{COUNTER, GREETING, ROUND, TICK};
use crate::pages::Pages;

/// Counts per step.
const STRIDE: u64 = ROUND / 4;
/// The pause after each step.
const REST: Duration = Duration::from_millis(1);

/// The guest, running or paused. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Imitation(Arc<(Mutex<bool>, Condvar)>);

impl Imitation {
    /// A paused guest, with the counter in its memory.
    pub(crate) fn standing(pages: Arc<Pages>) -> Self {
        let guest = Self(Arc::new((Mutex::new(false), Condvar::new())));
        let inner = guest.clone();
        thread::spawn(move || inner.count(&pages));
        guest
    }

    /// A guest that boots.
    pub(crate) fn booted(pages: Arc<Pages>) -> Self {
        say(GREETING);
        let guest = Self::standing(pages);
        guest.set(true);
        guest
    }

    /// Resumes or pauses it. A paused guest does nothing once this has returned.
    pub(crate) fn set(&self, runs: bool) {
        *self.lock() = runs;
        self.0.1.notify_all();
    }

    pub(crate) fn runs(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, pages: &Pages) {
        loop {
            let mut runs = self.lock();
            while !*runs {
                runs = self.0.1.wait(runs).unwrap_or_else(PoisonError::into_inner);
            }
            for _ in 0..STRIDE {
                let count = pages.read(COUNTER) + 1;
                pages.write(COUNTER, count);
                if count.is_multiple_of(ROUND) {
                    say(&[TICK]);
                }
            }
            drop(runs);
            thread::sleep(REST);
        }
    }
}

/// Prints on the serial port, and ignores a closed output.
fn say(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).unwrap_or_default();
}
