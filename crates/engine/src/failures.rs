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
        match self.last() {
            None => Known::Nothing,
            Some(failure) if failure.is_passing() => Known::Nothing,
            Some(failure) if failure.holds(now) => Known::Failure(failure),
            Some(failure) => {
                let count = failure.count.saturating_add(1);
                let next = Failure { until: after(now, pause(count)), count, ..failure.clone() };
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
        self.last().filter(|failure| failure.holds(now))
    }

    /// Remembers a failure.
    pub(crate) fn add(&self, failed: Failed, reason: String, now: Timestamp) -> Failure {
        let count = self.last().map_or(0, |failure| failure.count).saturating_add(1);
        let until = match (failed, count) {
            (Failed::Passing, 1) => Timestamp::MIN,
            _ => after(now, pause(count)),
        };
        let failure = Failure { reason, until, count };
        // Where it cannot be kept the next start pays as well, as it would without this.
        self.write(&failure).unwrap_or_default();
        failure
    }

    /// Remembers the failure of a retry, which was counted when it was due.
    pub(crate) fn add_retried(&self, reason: String, now: Timestamp) {
        let count = self.last().map_or(1, |failure| failure.count);
        let failure = Failure { reason, until: after(now, pause(count)), count };
        self.write(&failure).unwrap_or_default();
    }

    /// Whether the last try failed.
    pub(crate) fn is_some(&self) -> bool {
        self.last().is_some()
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
    fn last(&self) -> Option<Failure> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }
}

impl Failure {
    fn is_passing(&self) -> bool {
        self.until == Timestamp::MIN
    }

    /// A time that no pause reaches is of a clock that was wrong.
    fn holds(&self, now: Timestamp) -> bool {
        now < self.until && self.until <= after(now, LONGEST_PAUSE)
    }
}

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(now)
}

fn pause(count: u32) -> SignedDuration {
    let doublings = count.saturating_sub(1).min(16);
    FIRST_PAUSE.checked_mul(1 << doublings).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
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
    fn one_that_was_damaged_once_is_made_again_at_once() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.add(Failed::Passing, "damaged".to_owned(), now);
        assert_eq!(failures.known(now), Known::Nothing);
        assert_eq!(failures.holding(now), None);
        failures.add(Failed::Passing, "damaged".to_owned(), now);
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
        assert_eq!(pause(7), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_clock_that_was_wrong_costs_a_try() {
        let (_dir, failures) = failures();
        let now = Timestamp::now();
        failures.add(Failed::Lasting, "no answer".to_owned(), now + SignedDuration::from_hours(24 * 365));
        assert!(matches!(failures.known(now), Known::RetryDue(_)));
    }
}
