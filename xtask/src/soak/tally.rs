//! Counts of commands by kind and outcome, with the longest time of each kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    /// The command failed, but its guest responded.
    Failed,
    /// A guest did not respond, or the command did not end.
    Unresponsive,
}

#[derive(Debug, Default)]
struct Row {
    count: u32,
    slow: u32,
    failed: u32,
    unresponsive: u32,
    longest: Duration,
}

/// The counts so far, by kind of command.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, Row>>);

impl Tally {
    pub(super) fn add(&self, kind: &'static str, took: Duration, is_slow: bool, outcome: Outcome) {
        let mut rows = self.rows();
        let row = rows.entry(kind).or_default();
        row.count += 1;
        row.slow += u32::from(is_slow);
        row.failed += u32::from(outcome == Outcome::Failed);
        row.unresponsive += u32::from(outcome == Outcome::Unresponsive);
        row.longest = row.longest.max(took);
    }

    pub(super) fn unresponsive(&self) -> u32 {
        self.rows().values().map(|row| row.unresponsive).sum()
    }

    pub(super) fn table(&self) -> String {
        let head =
            "| kind | count | slow | failed | unresponsive | longest, s |\n|---|---|---|---|---|---|\n"
                .to_owned();
        self.rows().iter().fold(head, |table, (kind, row)| {
            let Row { count, slow, failed, unresponsive, longest } = row;
            let longest = longest.as_secs_f64();
            format!("{table}| {kind} | {count} | {slow} | {failed} | {unresponsive} | {longest:.1} |\n")
        })
    }

    /// The host's load average.
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
    fn each_kind_is_counted_separately() {
        let tally = Tally::default();
        tally.add("run", Duration::from_secs(1), false, Outcome::Succeeded);
        tally.add("run", Duration::from_secs(3), true, Outcome::Unresponsive);
        tally.add("fork", Duration::from_secs(2), false, Outcome::Failed);
        assert_eq!(tally.unresponsive(), 1);
        assert!(tally.table().contains("| run | 2 | 1 | 0 | 1 | 3.0 |\n"), "{}", tally.table());
    }
}
