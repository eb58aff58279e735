//! What was started, how long it took at most, and what was silent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It did what it should.
    Well,
    /// It failed, and no guest was silent.
    Failed,
    /// A guest did not answer, or the command did not end.
    Silent,
}

#[derive(Debug, Default)]
struct Row {
    count: u32,
    slow: u32,
    failed: u32,
    silent: u32,
    longest: Duration,
}

/// The figures so far, by kind of command.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, Row>>);

impl Tally {
    pub(super) fn add(&self, kind: &'static str, took: Duration, is_slow: bool, outcome: Outcome) {
        let mut rows = self.rows();
        let row = rows.entry(kind).or_default();
        row.count += 1;
        row.slow += u32::from(is_slow);
        row.failed += u32::from(outcome == Outcome::Failed);
        row.silent += u32::from(outcome == Outcome::Silent);
        row.longest = row.longest.max(took);
    }

    pub(super) fn silent(&self) -> u32 {
        self.rows().values().map(|row| row.silent).sum()
    }

    pub(super) fn table(&self) -> String {
        let head =
            "| kind | count | slow | failed | silent | longest, s |\n|---|---|---|---|---|---|\n".to_owned();
        self.rows().iter().fold(head, |table, (kind, row)| {
            let Row { count, slow, failed, silent, longest } = row;
            let longest = longest.as_secs_f64();
            format!("{table}| {kind} | {count} | {slow} | {failed} | {silent} | {longest:.1} |\n")
        })
    }

    /// How busy the host is.
    pub(super) fn load(&self) -> String {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        format!("load {}", load.trim())
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<&'static str, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_by_themselves() {
        let tally = Tally::default();
        tally.add("run", Duration::from_secs(1), false, Outcome::Well);
        tally.add("run", Duration::from_secs(3), true, Outcome::Silent);
        tally.add("fork", Duration::from_secs(2), false, Outcome::Failed);
        assert_eq!(tally.silent(), 1);
        assert!(tally.table().contains("| run | 2 | 1 | 0 | 1 | 3.0 |\n"), "{}", tally.table());
    }
}
