//! The table of all targets, and the memory table.

use crate::bench::result::{Bench, ConcurrentStarts, Cost, Footprint, Measurement, Subject, Target, target};
use crate::bench::table::{is_met, number, ratio, target_label};

/// The maximum memory of one more idle clone, in MiB.
const MAX_EXTRA_MIB: f64 = 25.0;
/// The maximum ratio of the longest pause to the shortest.
const MAX_SPREAD: f64 = 1.3;
const MIB: f64 = 1_048_576.0;

/// A row of the table.
struct Row {
    measurement: String,
    subject: &'static str,
    target: String,
    measured: String,
    /// `None` if it cannot be decided.
    met: Option<bool>,
}

/// The table of targets.
pub(super) fn targets(bench: &Bench) -> String {
    let head = "| measurement | system | target | measured | |\n|---|---|---|---|---|\n";
    let rows = times(bench).into_iter().chain(failures(bench)).chain(spread(bench)).chain(extra(bench));
    let rows = rows.map(|Row { measurement, subject, target, measured, met }| {
        let met = met.map_or("unknown", |met| if met { "met" } else { "**not met**" });
        format!("| {measurement} | {subject} | {target} | {measured} | {met} |\n")
    });
    format!("{head}{}", rows.collect::<String>())
}

fn times(bench: &Bench) -> Vec<Row> {
    let rows = bench.series.iter().filter_map(|series| {
        let (measurement, subject, samples) = (series.measurement, series.subject, &series.millis);
        let target = target(measurement, subject)?;
        let at = |percent| number(samples.percentile(percent));
        let measured = match target {
            Target::Millis { p99: None, .. } => format!("{} ms", at(50.0)),
            Target::Millis { .. } => format!("{} ms, p99 {} ms", at(50.0), at(99.0)),
            Target::ToPodman(_) => match ratio(bench, measurement, Subject::Podman, samples) {
                Some(ratio) => format!("{ratio:.2} x ({} ms)", at(50.0)),
                None => format!("{} ms", at(50.0)),
            },
        };
        let met = is_met(bench, target, measurement, samples);
        let (measurement, subject) = (measurement.label(), subject.label());
        Some(Row { measurement, subject, target: target_label(target), measured, met })
    });
    rows.collect()
}

fn failures(bench: &Bench) -> Option<Row> {
    let ConcurrentStarts { requested, failures } = bench.concurrent_starts.as_ref()?;
    Some(Row {
        measurement: "failed clones of those started at once".to_owned(),
        subject: Subject::MimeoDebian.label(),
        target: "none".to_owned(),
        measured: format!("{} of {requested}", failures.len()),
        met: Some(failures.is_empty()),
    })
}

/// The ratio of the longest median pause to the shortest, over all sizes of the source.
fn spread(bench: &Bench) -> Option<Row> {
    let pauses = bench.series.iter().filter_map(|series| match series.measurement {
        Measurement::Pause { .. } => Some(series.millis.percentile(50.0)),
        _ => None,
    });
    let pauses: Vec<_> = pauses.collect();
    let max = pauses.iter().copied().reduce(f64::max)?;
    let min = pauses.iter().copied().reduce(f64::min)?;
    Some(Row {
        measurement: "fork: ratio of the longest of these pauses to the shortest".to_owned(),
        subject: Subject::MimeoDebian.label(),
        target: format!("{MAX_SPREAD} x"),
        measured: format!("{:.2} x", max / min),
        met: Some(max / min <= MAX_SPREAD),
    })
}

/// The memory that each idle clone beyond the first adds, for the largest number of clones.
fn extra(bench: &Bench) -> Option<Row> {
    let idle = bench.footprints.iter().filter(|footprint| !footprint.worked);
    let most = idle.max_by_key(|footprint| footprint.clones.len())?;
    let extra = extra_mib(bench, most)?;
    Some(Row {
        measurement: format!("memory of one more idle clone, {} running", most.clones.len()),
        subject: Subject::MimeoDebian.label(),
        target: format!("{MAX_EXTRA_MIB} MiB"),
        measured: format!("{extra:.1} MiB"),
        met: Some(extra <= MAX_EXTRA_MIB),
    })
}

fn extra_mib(bench: &Bench, footprint: &Footprint) -> Option<f64> {
    let is_one = |other: &&Footprint| other.worked == footprint.worked && other.clones.len() == 1;
    let one = bench.footprints.iter().find(is_one)?;
    let more = footprint.clones.len().checked_sub(1).filter(|more| *more > 0)?;
    Some((sum(footprint, |cost| cost.pss) - sum(one, |cost| cost.pss)) / more as f64)
}

fn sum(footprint: &Footprint, part: fn(&Cost) -> u64) -> f64 {
    footprint.clones.iter().map(|cost| part(cost) as f64 / MIB).sum()
}

/// The memory table: all clones together, and each of them.
pub(super) fn memory(bench: &Bench) -> String {
    let head = "| clones | | PSS of all | PSS, each | unique, each | shared, each | supervisor's PSS, each | each beyond the first |\n\
                |---:|---|---:|---:|---:|---:|---:|---:|\n";
    let rows = bench.footprints.iter().map(|footprint| {
        let count = footprint.clones.len();
        let each = |part: fn(&Cost) -> u64| sum(footprint, part) / count as f64;
        let state = if footprint.worked { "after work" } else { "idle" };
        let extra = extra_mib(bench, footprint).map(|extra| format!("{extra:.1}")).unwrap_or_default();
        format!(
            "| {count} | {state} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {extra} |\n",
            sum(footprint, |cost| cost.pss),
            each(|cost| cost.pss),
            each(|cost| cost.unique),
            each(|cost| cost.shared),
            each(|cost| cost.supervisor),
        )
    });
    format!("{head}{}", rows.collect::<String>())
}
