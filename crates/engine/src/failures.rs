//! Remembers what could not be built or restored, so that later starts do not repeat a known failure.
//!
//! The start that first meets a failure pays for it. After a transient failure the next start tries again. Otherwise
//! nothing is tried for a delay. Then a separate
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
pub(crate) enum FailureKind {
    /// The next attempt will fail as well.
    Persistent,
    /// The next attempt may succeed, since the process was killed or the damaged file is gone. It is made at
    /// once after the first failure.
    Transient,
}

/// What a start should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryState {
    /// Try: nothing failed, or only a first transient failure is known.
    Untried,
    /// Use the fallback.
    Waiting(Failure),
    /// Use the fallback and start a retry in the background: the delay is over.
    RetryDue(Failure),
}

impl Failures {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns what is known now. When the delay is over, one caller gets [`RetryState::RetryDue`] and starts a retry,
    /// and the next delay begins: a retry that is killed counts as a failure.
    pub(crate) fn retry_state(&self, now: Timestamp) -> RetryState {
        match self.read() {
            None => RetryState::Untried,
            Some(failure) if failure.is_transient() => RetryState::Untried,
            Some(failure) if failure.is_in_effect(now) => RetryState::Waiting(failure),
            Some(failure) => {
                let count = failure.count.saturating_add(1);
                let next = Failure { until: deadline(now, retry_delay(count)), count, ..failure.clone() };
                match self.write(&next) {
                    Ok(()) => RetryState::RetryDue(failure),
                    // Without the file every start would begin a retry.
                    Err(_) => RetryState::Waiting(failure),
                }
            }
        }
    }

    /// Returns the failure that prevents an attempt now, for callers that waited for another's attempt.
    pub(crate) fn current(&self, now: Timestamp) -> Option<Failure> {
        self.read().filter(|failure| failure.is_in_effect(now))
    }

    /// Records a failure.
    pub(crate) fn record(&self, failed: FailureKind, reason: String, now: Timestamp) -> Failure {
        let count = self.read().map_or(0, |failure| failure.count).saturating_add(1);
        let until = match (failed, count) {
            (FailureKind::Transient, 1) => Timestamp::MIN,
            _ => deadline(now, retry_delay(count)),
        };
        let failure = Failure { reason, until, count };
        // `write` logs an error. Without the file the next start pays for the failure again.
        self.write(&failure).unwrap_or_default();
        failure
    }

    /// Records the failure of a retry, which was counted when it became due.
    pub(crate) fn record_retry(&self, reason: String, now: Timestamp) {
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
        let failures = Failures::new(dir.path().join("failed.json"));
        (dir, failures)
    }

    #[test]
    fn the_retry_delay_grows() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(failures.retry_state(now), RetryState::Untried);
        let first = failures.record(FailureKind::Persistent, "no answer".to_owned(), now);
        assert_eq!(failures.retry_state(at(59)), RetryState::Waiting(first.clone()));
        // One caller retries; the others use the fallback meanwhile.
        assert_eq!(failures.retry_state(at(60)), RetryState::RetryDue(first.clone()));
        assert!(matches!(failures.retry_state(at(60)), RetryState::Waiting(_)));
        failures.record_retry("again".to_owned(), at(60));
        assert!(
            matches!(failures.retry_state(at(179)), RetryState::Waiting(failure) if failure.reason == "again")
        );
        // A retry that is killed has failed as well.
        assert!(matches!(failures.retry_state(at(180)), RetryState::RetryDue(_)));
        assert_eq!(failures.current(at(419)).map(|failure| failure.count), Some(3));
        assert!(matches!(failures.retry_state(at(420)), RetryState::RetryDue(_)));
        failures.clear();
        assert_eq!(failures.retry_state(now), RetryState::Untried);
    }

    #[test]
    fn the_first_transient_failure_is_retried_at_once() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.record(FailureKind::Transient, "damaged".to_owned(), now);
        assert_eq!(failures.retry_state(now), RetryState::Untried);
        assert_eq!(failures.current(now), None);
        failures.record(FailureKind::Transient, "damaged".to_owned(), now);
        assert!(matches!(failures.retry_state(now), RetryState::Waiting(_)));
    }

    #[test]
    fn an_unreadable_file_allows_a_try() {
        let (dir, failures) = failures();
        fs::write(dir.path().join("failed.json"), "{").expect("written");
        assert_eq!(failures.retry_state(Timestamp::now()), RetryState::Untried);
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
        failures.record(
            FailureKind::Persistent,
            "no answer".to_owned(),
            now + SignedDuration::from_hours(24 * 365),
        );
        assert!(matches!(failures.retry_state(now), RetryState::RetryDue(_)));
    }
}
