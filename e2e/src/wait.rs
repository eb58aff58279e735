//! Waiting for a predicate, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take on a machine that is shared and slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives something, and says what was waited for when it
/// does not within a minute.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
