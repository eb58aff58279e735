//! Remembers what could not be built or restored, so that later starts do not repeat a known failure.
//!
//! The start that first meets a failure pays for it. For a delay after that nothing is tried. Then a separate
//! process makes one attempt, while starts continue with a fallback.

use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::durable;

/// The delay before the first retry; each later delay is twice the one before.
const INITIAL_DELAY: SignedDuration = SignedDuration::from_secs(60);
const MAX_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// The past failures to build one artifact for later starts: a file that is removed with what the artifact
/// belongs to.
#[derive(Debug)]
pub(crate) struct Failures {
    path: PathBuf,
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Why it failed.
    pub(crate) reason: String,
    /// The time before which nothing is tried.
    pub(crate) until: Timestamp,
    /// Consecutive failures.
    count: u32,
}

/// What a failure implies for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The next attempt will fail as well.
    Lasting,
    /// The next attempt may succeed, since the process was killed or the damaged file is gone. It is made at
    /// once after the first failure.
    Passing,
}

/// What a start should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Try: the last attempt did not fail.
    Nothing,
    /// Use the fallback.
    Failure(Failure),
    /// Use the fallback and start a retry in the background: the delay is over.
    RetryDue(Failure),
}

impl Failures {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns what is known now. When the delay is over, one caller gets [`Known::RetryDue`] and starts a retry,
    /// and the next delay begins: a retry that is killed counts as a failure.
    pub(crate) fn known(&self, now: Timestamp) -> Known {
        match self.read() {
            None => Known::Nothing,
            Some(failure) if failure.is_transient() => Known::Nothing,
            Some(failure) if failure.is_in_effect(now) => Known::Failure(failure),
            Some(failure) => {
                let count = failure.count.saturating_add(1);
                let next = Failure { until: deadline(now, retry_delay(count)), count, ..failure.clone() };
                match self.write(&next) {
                    Ok(()) => Known::RetryDue(failure),
                    // Without the file every start would begin a retry.
                    Err(_) => Known::Failure(failure),
                }
            }
        }
    }

    /// Returns the failure that prevents an attempt now, for callers that waited for another's attempt.
    pub(crate) fn holding(&self, now: Timestamp) -> Option<Failure> {
        self.read().filter(|failure| failure.is_in_effect(now))
    }

    /// Records a failure.
    pub(crate) fn add(&self, failed: Failed, reason: String, now: Timestamp) -> Failure {
        let count = self.read().map_or(0, |failure| failure.count).saturating_add(1);
        let until = match (failed, count) {
            (Failed::Passing, 1) => Timestamp::MIN,
            _ => deadline(now, retry_delay(count)),
        };
        let failure = Failure { reason, until, count };
        // `write` logs an error. Without the file the next start pays for the failure again.
        self.write(&failure).unwrap_or_default();
        failure
    }

    /// Records the failure of a retry, which was counted when it became due.
    pub(crate) fn add_retried(&self, reason: String, now: Timestamp) {
        let count = self.read().map_or(1, |failure| failure.count);
        let failure = Failure { reason, until: deadline(now, retry_delay(count)), count };
        // `write` logs an error.
        self.write(&failure).unwrap_or_default();
    }

    /// Returns whether the last attempt failed.
    pub(crate) fn is_some(&self) -> bool {
        self.read().is_some()
    }

    /// Forgets the failures after a success.
    pub(crate) fn clear(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove the record of past failures");
            }
            _ => {}
        }
    }

    fn write(&self, failure: &Failure) -> io::Result<()> {
        durable::write_json(&self.path, failure).inspect_err(|error| {
            tracing::warn!(path = %self.path.display(), %error, "cannot record a failure");
        })
    }

    /// Reads the last failure. An unreadable file counts as none, which costs one attempt.
    fn read(&self) -> Option<Failure> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

impl Failure {
    fn is_transient(&self) -> bool {
        self.until == Timestamp::MIN
    }

    /// A deadline beyond the longest delay was written with a wrong clock, and does not apply.
    fn is_in_effect(&self, now: Timestamp) -> bool {
        now < self.until && self.until <= deadline(now, MAX_DELAY)
    }
}

fn deadline(now: Timestamp, delay: SignedDuration) -> Timestamp {
    now.saturating_add(delay).unwrap_or(now)
}

fn retry_delay(count: u32) -> SignedDuration {
    let doublings = count.saturating_sub(1).min(16);
    INITIAL_DELAY.checked_mul(1 << doublings).map_or(MAX_DELAY, |delay| delay.min(MAX_DELAY))
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
    fn the_retry_delay_grows() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(failures.known(now), Known::Nothing);
        let first = failures.add(Failed::Lasting, "no answer".to_owned(), now);
        assert_eq!(failures.known(at(59)), Known::Failure(first.clone()));
        // One caller retries; the others use the fallback meanwhile.
        assert_eq!(failures.known(at(60)), Known::RetryDue(first.clone()));
        assert!(matches!(failures.known(at(60)), Known::Failure(_)));
        failures.add_retried("again".to_owned(), at(60));
        assert!(matches!(failures.known(at(179)), Known::Failure(failure) if failure.reason == "again"));
        // A retry that is killed has failed as well.
        assert!(matches!(failures.known(at(180)), Known::RetryDue(_)));
        assert_eq!(failures.holding(at(419)).map(|failure| failure.count), Some(3));
        assert!(matches!(failures.known(at(420)), Known::RetryDue(_)));
        failures.clear();
        assert_eq!(failures.known(now), Known::Nothing);
    }

    #[test]
    fn the_first_transient_failure_is_retried_at_once() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.add(Failed::Passing, "damaged".to_owned(), now);
        assert_eq!(failures.known(now), Known::Nothing);
        assert_eq!(failures.holding(now), None);
        failures.add(Failed::Passing, "damaged".to_owned(), now);
        assert!(matches!(failures.known(now), Known::Failure(_)));
    }

    #[test]
    fn an_unreadable_file_allows_a_try() {
        let (dir, failures) = failures();
        fs::write(dir.path().join("failed.json"), "{").expect("written");
        assert_eq!(failures.known(Timestamp::now()), Known::Nothing);
    }

    #[test]
    fn no_delay_exceeds_an_hour() {
        assert_eq!(retry_delay(7), MAX_DELAY);
        assert_eq!(retry_delay(u32::MAX), MAX_DELAY);
    }

    #[test]
    fn an_implausible_deadline_allows_a_retry() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.add(Failed::Lasting, "no answer".to_owned(), now + SignedDuration::from_hours(24 * 365));
        assert!(matches!(failures.known(now), Known::RetryDue(_)));
    }
}
