//! A guest that does what [`crate::guest`] does, without a processor.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::guest::{COUNTER, GREETING, ROUND, TICK};
use crate::pages::Pages;

/// How far it counts at a time.
const STRIDE: u64 = ROUND / 4;
/// How long it rests then: it has no processor of its own.
const REST: Duration = Duration::from_millis(1);

/// The guest, running or not. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Imitation(Arc<(Mutex<bool>, Condvar)>);

impl Imitation {
    /// One that stands still where its memory says it is.
    pub(crate) fn standing(pages: Arc<Pages>) -> Self {
        let guest = Self(Arc::new((Mutex::new(false), Condvar::new())));
        let inner = guest.clone();
        thread::spawn(move || inner.count(&pages));
        guest
    }

    /// One that begins.
    pub(crate) fn booted(pages: Arc<Pages>) -> Self {
        say(GREETING);
        let guest = Self::standing(pages);
        guest.set(true);
        guest
    }

    /// Has it run, or stand still: then it does nothing when this returns.
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

/// Says something on the serial port. Who does not listen is not waited for.
fn say(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).unwrap_or_default();
}
