//! Runtime snapshots that could not be made or restored: no start pays for a failure that is known.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Until the second try. Each pause is twice the one before.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(60);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// What is known of one runtime snapshot, in the run directory: gone when the host is rebooted.
#[derive(Debug)]
pub(super) struct Failures {
    path: PathBuf,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Why it failed.
    pub(super) reason: String,
    /// Until when it is not tried again.
    pub(super) until: Timestamp,
    /// In a row.
    count: u32,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// It could not be made.
    Make,
    /// It was there, and could not be restored: it may have been damaged, so the first time it is made again at once.
    Restore,
}

impl Failures {
    pub(super) fn of(run_dir: &Path, key: &str) -> Self {
        Self { path: run_dir.join(format!("failed-{key}.json")) }
    }

    /// The failure for which nothing is tried now. One that cannot be read is none: it costs a try.
    pub(super) fn known(&self, now: Timestamp) -> Option<Failure> {
        self.last().filter(|failure| now < failure.until)
    }

    /// Remembers a failure.
    pub(super) fn add(&self, failed: Failed, reason: String, now: Timestamp) -> Failure {
        let count = self.last().map_or(0, |failure| failure.count).saturating_add(1);
        let failure =
            Failure { reason, until: now.saturating_add(pause(failed, count)).unwrap_or(now), count };
        if let Err(error) = durable::write_json(&self.path, &failure) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remember a failure");
        }
        failure
    }

    /// It works again.
    pub(super) fn clear(&self) {
        // There is none as a rule.
        fs::remove_file(&self.path).ok();
    }

    fn last(&self) -> Option<Failure> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

fn pause(failed: Failed, count: u32) -> SignedDuration {
    let doublings = match failed {
        Failed::Make => count.saturating_sub(1),
        Failed::Restore if count < 2 => return SignedDuration::ZERO,
        Failed::Restore => count - 2,
    };
    FIRST_PAUSE.checked_mul(1 << doublings.min(16)).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_known_for_a_pause_that_grows() {
        let dir = tempfile::tempdir().expect("a directory");
        let failures = Failures::of(dir.path(), "key");
        let now = Timestamp::now();
        let after = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(failures.known(now), None);
        let first = failures.add(Failed::Make, "no answer".to_owned(), now);
        assert_eq!(failures.known(after(59)), Some(first));
        assert_eq!(failures.known(after(60)), None);
        failures.add(Failed::Make, "again".to_owned(), after(60));
        assert!(failures.known(after(179)).is_some_and(|failure| failure.reason == "again"));
        assert_eq!(failures.known(after(181)), None);
        failures.clear();
        failures.add(Failed::Make, "anew".to_owned(), now);
        assert_eq!(failures.known(after(61)), None);
    }

    #[test]
    fn one_that_was_damaged_once_is_made_again_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let failures = Failures::of(dir.path(), "key");
        let now = Timestamp::now();
        failures.add(Failed::Restore, "damaged".to_owned(), now);
        assert_eq!(failures.known(now), None);
        failures.add(Failed::Restore, "damaged".to_owned(), now);
        assert!(failures.known(now).is_some());
    }

    #[test]
    fn no_pause_is_longer_than_an_hour() {
        assert_eq!(pause(Failed::Make, 7), LONGEST_PAUSE);
        assert_eq!(pause(Failed::Restore, u32::MAX), LONGEST_PAUSE);
    }
}
