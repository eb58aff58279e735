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
const INITIAL_DELAY: SignedDuration = SignedDuration::from_secs(60);
const MAX_DELAY: SignedDuration = SignedDuration::from_hours(1);

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

/// What a failure says of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// That it will fail as well.
    Lasting,
    /// Nothing, the first time: somebody killed it, or what was damaged is gone. It is tried again at once.
    Passing,
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

    /// What is known now. When the pause is over, one who asks is told to have it tried, and the next pause begins: a try
    /// that is killed counts as one that failed.
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
                    // Every start would have it tried.
                    Err(_) => Known::Failure(failure),
                }
            }
        }
    }

    /// The failure for which nothing is tried now. For who has waited while another tried.
    pub(crate) fn holding(&self, now: Timestamp) -> Option<Failure> {
        self.read().filter(|failure| failure.is_in_effect(now))
    }

    /// Remembers a failure.
    pub(crate) fn add(&self, failed: Failed, reason: String, now: Timestamp) -> Failure {
        let count = self.read().map_or(0, |failure| failure.count).saturating_add(1);
        let until = match (failed, count) {
            (Failed::Passing, 1) => Timestamp::MIN,
            _ => deadline(now, retry_delay(count)),
        };
        let failure = Failure { reason, until, count };
        // Where it cannot be kept the next start pays as well, as it would without this.
        self.write(&failure).unwrap_or_default();
        failure
    }

    /// Remembers the failure of a retry, which was counted when it was due.
    pub(crate) fn add_retried(&self, reason: String, now: Timestamp) {
        let count = self.read().map_or(1, |failure| failure.count);
        let failure = Failure { reason, until: deadline(now, retry_delay(count)), count };
        self.write(&failure).unwrap_or_default();
    }

    /// Whether the last try failed.
    pub(crate) fn is_some(&self) -> bool {
        self.read().is_some()
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

    fn write(&self, failure: &Failure) -> io::Result<()> {
        durable::write_json(&self.path, failure).inspect_err(|error| {
            tracing::warn!(path = %self.path.display(), %error, "cannot remember a failure");
        })
    }

    /// One that cannot be read is none: it costs a try.
    fn read(&self) -> Option<Failure> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

impl Failure {
    fn is_transient(&self) -> bool {
        self.until == Timestamp::MIN
    }

    /// A time that no pause reaches is of a clock that was wrong.
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
        // One retries, the others do without meanwhile.
        assert_eq!(failures.known(at(60)), Known::RetryDue(first.clone()));
        assert!(matches!(failures.known(at(60)), Known::Failure(_)));
        failures.add_retried("again".to_owned(), at(60));
        assert!(matches!(failures.known(at(179)), Known::Failure(failure) if failure.reason == "again"));
        // One that is killed has failed as well.
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
