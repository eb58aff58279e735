//! What could not be made or restored: no start pays for a failure that is known.
//!
//! The start that meets a failure first pays for it. After that nothing is tried for a pause; then one try is made by a
//! process of its own, while starts go on without.

use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Until the second try. Each pause is twice the one before.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(60);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// What is known of one thing that is made for later starts: a file, gone with what it belongs to.
#[derive(Debug)]
pub(crate) struct Failures {
    path: PathBuf,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Why it failed.
    pub(crate) reason: String,
    /// Until when it is not tried again.
    pub(crate) until: Timestamp,
    /// In a row.
    count: u32,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It could not be made.
    Make,
    /// It was there, and could not be restored: it may have been damaged, so the first time it is made again at once.
    Restore,
}

/// What a start is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Try: nothing failed the last time.
    Nothing,
    /// Do without.
    Failure(Failure),
    /// Do without, and have it tried once more meanwhile: the pause is over.
    RetryDue(Failure),
}

impl Failures {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is known now. Of several who ask at once when the pause is over, as a rule one is told to have it tried.
    pub(crate) fn known(&self, now: Timestamp) -> Known {
        match self.last() {
            None => Known::Nothing,
            Some(failure) if now < failure.until => Known::Failure(failure),
            // Made again at once.
            Some(Failure { count: 1, reason: _, until }) if until == Timestamp::MIN => Known::Nothing,
            Some(failure) => {
                let until = after(now, pause(Failed::Make, failure.count));
                self.write(&Failure { until, ..failure.clone() });
                Known::RetryDue(failure)
            }
        }
    }

    /// Remembers a failure.
    pub(crate) fn add(&self, failed: Failed, reason: String, now: Timestamp) -> Failure {
        let count = self.last().map_or(0, |failure| failure.count).saturating_add(1);
        let until = match (failed, count) {
            (Failed::Restore, 1) => Timestamp::MIN,
            _ => after(now, pause(failed, count)),
        };
        let failure = Failure { reason, until, count };
        self.write(&failure);
        failure
    }

    /// It works again.
    pub(crate) fn clear(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot forget a failure that is over");
            }
            _ => {}
        }
    }

    fn write(&self, failure: &Failure) {
        if let Err(error) = durable::write_json(&self.path, failure) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remember a failure");
        }
    }

    /// One that cannot be read is none: it costs a try.
    fn last(&self) -> Option<Failure> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(now)
}

fn pause(failed: Failed, count: u32) -> SignedDuration {
    let doublings = match failed {
        Failed::Make => count.saturating_sub(1),
        Failed::Restore => count.saturating_sub(2),
    };
    FIRST_PAUSE.checked_mul(1 << doublings.min(16)).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> (tempfile::TempDir, Failures) {
        let dir = tempfile::tempdir().expect("a directory");
        let failures = Failures::at(dir.path().join("failed.json"));
        (dir, failures)
    }

    #[test]
    fn a_failure_is_known_for_a_pause_that_grows() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(failures.known(now), Known::Nothing);
        let first = failures.add(Failed::Make, "no answer".to_owned(), now);
        assert_eq!(failures.known(at(59)), Known::Failure(first.clone()));
        // One retries, the others do without meanwhile.
        assert_eq!(failures.known(at(60)), Known::RetryDue(first.clone()));
        assert!(matches!(failures.known(at(60)), Known::Failure(_)));
        failures.add(Failed::Make, "again".to_owned(), at(60));
        assert!(matches!(failures.known(at(179)), Known::Failure(failure) if failure.reason == "again"));
        assert!(matches!(failures.known(at(180)), Known::RetryDue(_)));
        failures.clear();
        assert_eq!(failures.known(now), Known::Nothing);
    }

    #[test]
    fn one_that_was_damaged_once_is_made_again_at_once() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.add(Failed::Restore, "damaged".to_owned(), now);
        assert_eq!(failures.known(now), Known::Nothing);
        failures.add(Failed::Restore, "damaged".to_owned(), now);
        assert!(matches!(failures.known(now), Known::Failure(_)));
    }

    #[test]
    fn a_file_that_cannot_be_read_costs_a_try() {
        let (dir, failures) = failures();
        fs::write(dir.path().join("failed.json"), "{").expect("written");
        assert_eq!(failures.known(Timestamp::now()), Known::Nothing);
    }

    #[test]
    fn no_pause_is_longer_than_an_hour() {
        assert_eq!(pause(Failed::Make, 7), LONGEST_PAUSE);
        assert_eq!(pause(Failed::Restore, u32::MAX), LONGEST_PAUSE);
    }
}
