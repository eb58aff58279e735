//! Turns the many events of a pull into a few reports per second.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mimeo_image::{Digest, Event, Progress, Stage};

use super::{PullProgress, PullStep};

/// Shortest time between two reports of the same step.
const INTERVAL: Duration = Duration::from_millis(250);

/// Receives the events of a pull and passes on its progress: at once when a step begins, then at intervals.
pub struct PullReporter<F> {
    report: F,
    sums: Mutex<Sums>,
}

/// What is known of the pull.
#[derive(Debug, Default)]
struct Sums {
    /// Bytes of all layers, once the manifest is known.
    bytes: u64,
    /// Bytes of each layer that were downloaded.
    downloaded: HashMap<Digest, u64>,
    /// Bytes of each layer that were read, of how many.
    unpacked: HashMap<Digest, (u64, u64)>,
    reported: Option<(PullStep, Instant)>,
}

impl<F> fmt::Debug for PullReporter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullReporter").finish_non_exhaustive()
    }
}

impl<F: Fn(PullProgress) + Send + Sync> PullReporter<F> {
    /// Reports to this function.
    pub fn new(report: F) -> Self {
        Self { report, sums: Mutex::default() }
    }
}

impl<F: Fn(PullProgress) + Send + Sync> Progress for PullReporter<F> {
    fn event(&self, event: Event) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = sums.add(event).filter(|progress| sums.is_due(progress.step)) {
            (self.report)(progress);
        }
    }
}

impl Sums {
    /// Adds an event; returns the progress of the step that it belongs to.
    fn add(&mut self, event: Event) -> Option<PullProgress> {
        match event {
            Event::Resolved { bytes, .. } => {
                self.bytes = bytes;
                Some(self.download())
            }
            Event::Layer { digest, stage: Stage::Unpacking, done, total } => {
                self.unpacked.insert(digest, (done, total));
                let sum = |of: fn(&(u64, u64)) -> u64| self.unpacked.values().map(of).sum::<u64>();
                let total = self.bytes.max(sum(|layer| layer.1));
                Some(PullProgress { step: PullStep::Unpacking, done: sum(|layer| layer.0), total })
            }
            Event::Layer { digest, stage: Stage::Present, total, .. } => {
                self.downloaded.insert(digest, total);
                Some(self.download())
            }
            Event::Layer { digest, stage: Stage::Downloading | Stage::Retrying, done, .. } => {
                self.downloaded.insert(digest, done);
                Some(self.download())
            }
            Event::Writing { done, total } => Some(PullProgress { step: PullStep::Writing, done, total }),
            Event::Stored => {
                Some(PullProgress { step: PullStep::Stored, done: self.bytes, total: self.bytes })
            }
            _ => None,
        }
    }

    fn download(&self) -> PullProgress {
        let done = self.downloaded.values().sum();
        PullProgress { step: PullStep::Downloading, done, total: self.bytes.max(done) }
    }

    fn is_due(&mut self, step: PullStep) -> bool {
        let now = Instant::now();
        let is_due = self.reported.is_none_or(|(last, at)| last != step || now - at >= INTERVAL);
        if is_due {
            self.reported = Some((step, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn reports(events: impl IntoIterator<Item = Event>) -> Vec<PullProgress> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let reporter = PullReporter::new(move |progress| sink.lock().expect("unlocked").push(progress));
        events.into_iter().for_each(|event| reporter.event(event));
        let seen = seen.lock().expect("unlocked");
        seen.clone()
    }

    fn layer(name: &str, stage: Stage, done: u64) -> Event {
        Event::Layer { digest: Digest::compute(name.as_bytes()), stage, done, total: 100 }
    }

    #[test]
    fn many_events_become_few_reports() {
        let (one, two) = ("one", "two");
        let resolved = Event::Resolved { digest: Digest::compute(b"image"), layers: 2, bytes: 200 };
        let mut events = vec![resolved];
        events.extend((0..100).flat_map(|done| [one, two].map(|name| layer(name, Stage::Downloading, done))));
        events.extend([one, two].map(|name| layer(name, Stage::Present, 100)));
        events.extend((0..100).map(|done| layer(one, Stage::Unpacking, done)));
        events.extend([Event::Writing { done: 1, total: 9 }, Event::Stored]);
        let seen = reports(events);
        let steps: Vec<_> = seen.iter().map(|progress| progress.step).collect();
        assert!(seen.len() < 20, "{seen:?}");
        assert_eq!(seen.first(), Some(&PullProgress { step: PullStep::Downloading, done: 0, total: 200 }));
        assert_eq!(seen.last(), Some(&PullProgress { step: PullStep::Stored, done: 200, total: 200 }));
        assert!(steps.contains(&PullStep::Unpacking) && steps.contains(&PullStep::Writing), "{steps:?}");
        assert!(seen.iter().all(|progress| progress.done <= progress.total), "{seen:?}");
    }
}
