//! The results of `bench pager`. The JSON's keys are a format: the committed samples use them.

use serde::{Deserialize, Serialize};

use crate::bench::host::Host;

/// The results of one benchmark.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Pager {
    pub(super) host: Host,
    pub(super) faults: Vec<Series>,
    pub(super) sharing: Vec<Cost>,
}

/// What handles the page faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultHandler {
    /// A thread for each clone that reads a fault and copies a page, and does nothing else.
    #[serde(rename = "bare")]
    BareLoop,
    /// The page server, with one page per fault.
    #[serde(rename = "server")]
    ServerSinglePage,
    /// The page server with its default number of pages per fault.
    #[serde(rename = "around")]
    Server,
    /// The same, with prefetch of the pages that earlier clones requested.
    #[serde(rename = "ahead")]
    ServerPrefetch,
}

/// The number of concurrent clones, and their processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) clones: usize,
    /// Whether clones and handler share one processor; otherwise they use all.
    pub(super) one_processor: bool,
}

/// The rounds of one handler in one setting.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    #[serde(rename = "way")]
    pub(super) handler: FaultHandler,
    pub(super) setting: Setting,
    pub(super) rounds: Vec<Round>,
}

/// One round: all clones touch each of their pages once, at the same time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Round {
    /// Microseconds per touch: the median and the 99th percentile of the median clone.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// The mean of the median clone.
    pub(super) mean: f64,
    /// The rate of all clones together.
    pub(super) pages_per_second: f64,
}

/// The host memory of several clones that have read the same memory, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) clones: usize,
    /// With private mappings of the file, as a VMM without a page server uses.
    pub(super) mapped: u64,
    /// With pages copied by the server.
    pub(super) copied: u64,
}

impl Pager {
    pub(super) fn new(host: Host) -> Self {
        Self { host, faults: Vec::new(), sharing: Vec::new() }
    }

    pub(super) fn add(&mut self, handler: FaultHandler, setting: Setting, round: Round) {
        if self.find(handler, setting).is_none() {
            self.faults.push(Series { handler, setting, rounds: Vec::new() });
        }
        let series = self.faults.iter_mut().find(|series| series.is(handler, setting));
        series.into_iter().for_each(|series| series.rounds.push(round));
    }

    pub(super) fn find(&self, handler: FaultHandler, setting: Setting) -> Option<&Series> {
        self.faults.iter().find(|series| series.is(handler, setting))
    }
}

impl Series {
    fn is(&self, handler: FaultHandler, setting: Setting) -> bool {
        self.handler == handler && self.setting == setting
    }

    /// The median of a figure over all rounds.
    pub(super) fn median(&self, figure: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }
}

/// The lower median.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
