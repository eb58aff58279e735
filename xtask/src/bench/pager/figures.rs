//! What was measured: kept as JSON, from which the page is made.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;

/// All of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Pager {
    pub(super) host: Host,
    pub(super) faults: Vec<Series>,
    pub(super) sharing: Vec<Cost>,
}

/// Who answers faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// A thread for each clone that waits, copies a page, and does nothing else.
    Bare,
    /// The server, a page for each fault.
    Server,
    /// The server as it is, with more than one.
    Around,
    /// The same, with the pages that clones before have asked for put in ahead.
    Ahead,
}

/// How many clones at once, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) clones: usize,
    /// Whether they and who serves them have one processor; else they have all.
    pub(super) one_processor: bool,
}

/// Rounds of one way in one setting.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) way: Way,
    pub(super) setting: Setting,
    pub(super) rounds: Vec<Round>,
}

/// What clones that touch all their pages at once saw, each of them once for the first time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Round {
    /// Microseconds of one touch: the median, and what 99 of 100 do not exceed; of these, the median clone's.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// The same of the mean.
    pub(super) mean: f64,
    /// Of all clones together.
    pub(super) pages_per_second: f64,
}

/// What so many clones that have read the same memory cost their host, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) clones: usize,
    /// Mapped privately from the file, as a VMM does without a page server.
    pub(super) mapped: u64,
    /// Copied by the server.
    pub(super) copied: u64,
}

impl Pager {
    pub(super) fn new(host: Host) -> Self {
        Self { host, faults: Vec::new(), sharing: Vec::new() }
    }

    pub(super) fn round(&mut self, way: Way, setting: Setting, round: Round) {
        if self.find(way, setting).is_none() {
            self.faults.push(Series { way, setting, rounds: Vec::new() });
        }
        let series = self.faults.iter_mut().find(|series| series.is(way, setting));
        series.into_iter().for_each(|series| series.rounds.push(round));
    }

    pub(super) fn find(&self, way: Way, setting: Setting) -> Option<&Series> {
        self.faults.iter().find(|series| series.is(way, setting))
    }
}

impl Series {
    fn is(&self, way: Way, setting: Setting) -> bool {
        self.way == way && self.setting == setting
    }

    /// The median round's.
    pub(super) fn median(&self, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// The smallest that half of all do not exceed.
pub(super) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
