//! Every line that there is a bar for, in one table.

use crate::bench::result::{Bar, Bench, Cost, Crowds, Footprint, Key, What, bar};
use crate::bench::table::{bar_words, is_met, number, ratio};

/// The most that one more idle copy may cost, in MiB.
const EXTRA_MIB: f64 = 25.0;
/// The most that the longest pause may be, times the shortest.
const SPREAD: f64 = 1.3;
const MIB: f64 = 1_048_576.0;

/// A line of the table.
struct Line {
    what: String,
    who: &'static str,
    bar: String,
    measured: String,
    /// None where it cannot be said.
    met: Option<bool>,
}

/// The table.
pub(super) fn of(bench: &Bench) -> String {
    let head = "| what | who | bar | measured | |\n|---|---|---|---|---|\n";
    let lines = times(bench).into_iter().chain(lost(bench)).chain(spread(bench)).chain(extra(bench));
    let rows = lines.map(|Line { what, who, bar, measured, met }| {
        let met = met.map_or("not to be said", |met| if met { "met" } else { "**not met**" });
        format!("| {what} | {who} | {bar} | {measured} | {met} |\n")
    });
    format!("{head}{}", rows.collect::<String>())
}

fn times(bench: &Bench) -> Vec<Line> {
    let lines = bench.series.iter().filter_map(|series| {
        let (what, key, samples) = (series.what, series.key, &series.millis);
        let bar = bar(what, key)?;
        let at = |percent| number(samples.percentile(percent));
        let measured = match bar {
            Bar::Millis { p99: None, .. } => format!("{} ms", at(50.0)),
            Bar::Millis { .. } => format!("{} ms, p99 {} ms", at(50.0), at(99.0)),
            Bar::ToPodman(_) => match ratio(bench, what, Key::Podman, samples) {
                Some(ratio) => format!("{ratio:.2} x ({} ms)", at(50.0)),
                None => format!("{} ms", at(50.0)),
            },
        };
        let met = is_met(bench, bar, what, samples);
        Some(Line { what: what.words(), who: key.words(), bar: bar_words(bar), measured, met })
    });
    lines.collect()
}

fn lost(bench: &Bench) -> Option<Line> {
    let Crowds { asked, lost } = bench.crowds.as_ref()?;
    Some(Line {
        what: "copies lost of those asked for at once".to_owned(),
        who: Key::MimeoDebian.words(),
        bar: "none".to_owned(),
        measured: format!("{} of {asked}", lost.len()),
        met: Some(lost.is_empty()),
    })
}

/// The medians of the pauses of the smallest and the largest source, to each other.
fn spread(bench: &Bench) -> Option<Line> {
    let pauses = bench.series.iter().filter_map(|series| match series.what {
        What::Pause { .. } => Some(series.millis.percentile(50.0)),
        _ => None,
    });
    let pauses: Vec<_> = pauses.collect();
    let most = pauses.iter().copied().reduce(f64::max)?;
    let least = pauses.iter().copied().reduce(f64::min)?;
    Some(Line {
        what: "fork: the longest of these pauses to the shortest".to_owned(),
        who: Key::MimeoDebian.words(),
        bar: format!("{SPREAD} x"),
        measured: format!("{:.2} x", most / least),
        met: Some(most / least <= SPREAD),
    })
}

/// What each copy beyond the first adds, of the most copies that were looked at, idle.
fn extra(bench: &Bench) -> Option<Line> {
    let idle = bench.footprints.iter().filter(|footprint| !footprint.worked);
    let most = idle.max_by_key(|footprint| footprint.copies.len())?;
    let extra = extra_mib(bench, most)?;
    Some(Line {
        what: format!("memory of one more idle copy, {} running", most.copies.len()),
        who: Key::MimeoDebian.words(),
        bar: format!("{EXTRA_MIB} MiB"),
        measured: format!("{extra:.1} MiB"),
        met: Some(extra <= EXTRA_MIB),
    })
}

fn extra_mib(bench: &Bench, footprint: &Footprint) -> Option<f64> {
    let is_one = |other: &&Footprint| other.worked == footprint.worked && other.copies.len() == 1;
    let one = bench.footprints.iter().find(is_one)?;
    let more = footprint.copies.len().checked_sub(1).filter(|more| *more > 0)?;
    Some((sum(footprint, |cost| cost.pss) - sum(one, |cost| cost.pss)) / more as f64)
}

fn sum(footprint: &Footprint, of: fn(&Cost) -> u64) -> f64 {
    footprint.copies.iter().map(|cost| of(cost) as f64 / MIB).sum()
}

/// What copies cost together, and each of them.
pub(super) fn memory(bench: &Bench) -> String {
    let head = "| copies | | PSS of all | of each | unique, each | shared, each | of which the monitor's PSS | each beyond the first |\n\
                |---:|---|---:|---:|---:|---:|---:|---:|\n";
    let rows = bench.footprints.iter().map(|footprint| {
        let count = footprint.copies.len();
        let each = |of: fn(&Cost) -> u64| sum(footprint, of) / count as f64;
        let did = if footprint.worked { "after work" } else { "idle" };
        let extra = extra_mib(bench, footprint).map(|extra| format!("{extra:.1}")).unwrap_or_default();
        format!(
            "| {count} | {did} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {extra} |\n",
            sum(footprint, |cost| cost.pss),
            each(|cost| cost.pss),
            each(|cost| cost.unique),
            each(|cost| cost.shared),
            each(|cost| cost.monitor),
        )
    });
    format!("{head}{}", rows.collect::<String>())
}
