//! Markdown tables, readable in a terminal too.

use super::result::{Bench, CLONE_STAGE_PREFIX, Measurement, Series, Soak, Subject, Target, target};
use super::samples::Samples;

/// All tables, for a terminal.
pub(super) fn all(bench: &Bench) -> String {
    let parts = [host(bench), series(bench), stages(bench), soaks(bench)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The host's table.
pub(super) fn host(bench: &Bench) -> String {
    let host = &bench.host;
    let mut rows = vec![
        ("date", host.taken.clone()),
        ("processor", format!("{}, {} cores visible", host.processor, host.cores)),
        ("memory", format!("{} MiB", host.memory_mib)),
        ("host's kernel", host.kernel.clone()),
        ("accelerator", bench.accelerator.clone()),
        ("QEMU", host.qemu.clone()),
        ("podman", bench.podman.clone().unwrap_or_else(|| "not measured".to_owned())),
    ];
    rows.extend(bench.kernels.iter().map(|(subject, name)| match subject {
        Subject::MimeoOwn => ("own kernel", name.clone()),
        _ => ("Debian's kernel", name.clone()),
    }));
    rows.push(("mimeo", host.commit.clone()));
    rows.push((
        "load average",
        format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end),
    ));
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

/// All measurements with their targets and their ratios to podman.
pub(super) fn series(bench: &Bench) -> String {
    let head = "| measurement | system | n | min | p50 | p90 | p99 | max | target | ratio to podman's p50 |\n\
                |---|---|---:|---:|---:|---:|---:|---:|---|---|\n";
    let rows: String = bench.series.iter().map(|series| row(bench, series)).collect();
    format!("{head}{rows}")
}

fn row(bench: &Bench, series: &Series) -> String {
    let Series { measurement, subject, millis } = series;
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        measurement.label(),
        subject.label(),
        millis.count(),
        percentiles(millis),
        verdict(bench, *measurement, *subject, millis),
        ratios(bench, *measurement, *subject, millis)
    )
}

fn percentiles(samples: &Samples) -> String {
    let at = [0.0, 50.0, 90.0, 99.0, 100.0].map(|percent| number(samples.percentile(percent)));
    at.join(" | ")
}

fn verdict(bench: &Bench, measurement: Measurement, subject: Subject, samples: &Samples) -> String {
    let Some(target) = target(measurement, subject) else { return String::new() };
    let met = match is_met(bench, target, measurement, samples) {
        Some(true) => "met",
        Some(false) => "not met",
        None => "unknown",
    };
    format!("{}: **{met}**", target_label(target))
}

/// A target's label in tables.
pub(super) fn target_label(target: Target) -> String {
    match target {
        Target::Millis { p50, p99: None } => format!("p50 {p50} ms"),
        Target::Millis { p50, p99: Some(p99) } => format!("p50 {p50} ms, p99 {p99} ms"),
        Target::ToPodman(ratio) => format!("{ratio} x podman"),
    }
}

/// Whether samples meet a target; `None` if podman was not measured and the target is relative to it.
pub(super) fn is_met(
    bench: &Bench,
    target: Target,
    measurement: Measurement,
    samples: &Samples,
) -> Option<bool> {
    let at = |percent| samples.percentile(percent);
    match target {
        Target::Millis { p50, p99 } => Some(at(50.0) <= p50 && p99.is_none_or(|p99| at(99.0) <= p99)),
        Target::ToPodman(max) => Some(ratio(bench, measurement, Subject::Podman, samples)? <= max),
    }
}

/// The ratios to podman with and without a network.
fn ratios(bench: &Bench, measurement: Measurement, subject: Subject, samples: &Samples) -> String {
    if !subject.is_mimeo() {
        return String::new();
    }
    let ratios = [
        ratio(bench, measurement, Subject::Podman, samples).map(|ratio| format!("{ratio:.2}")),
        ratio(bench, measurement, Subject::PodmanNoNetwork, samples)
            .map(|ratio| format!("{ratio:.2} (no network)")),
    ];
    ratios.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The ratio of the median to a peer's median.
pub(super) fn ratio(
    bench: &Bench,
    measurement: Measurement,
    peer: Subject,
    samples: &Samples,
) -> Option<f64> {
    Some(samples.percentile(50.0) / bench.find(measurement, peer)?.percentile(50.0))
}

/// The stages' table.
pub(super) fn stages(bench: &Bench) -> String {
    let head =
        "| stage | system | n | min | p50 | p90 | p99 | max |\n|---|---|---:|---:|---:|---:|---:|---:|\n";
    let rows = bench.stages.iter().map(|stage| {
        let (count, at) = (stage.millis.count(), percentiles(&stage.millis));
        let name = stage_label(&stage.stage);
        format!("| {name} | {} | {count} | {at} |\n", stage.subject.label())
    });
    format!("{head}{}", rows.collect::<String>())
}

/// A stage's label in tables: a clone's stages have an older prefix in the samples.
fn stage_label(stage: &str) -> String {
    match stage.strip_prefix(CLONE_STAGE_PREFIX) {
        Some(name) => format!("clone: {name}"),
        None => stage.to_owned(),
    }
}

/// The table of boots in a row; empty if there were none.
pub(super) fn soaks(bench: &Bench) -> String {
    if bench.soaks.is_empty() {
        return String::new();
    }
    let head =
        "| boots in a row | succeeded | hung | failed | p50 | slowest |\n|---|---:|---:|---:|---:|---:|\n";
    let rows = bench.soaks.iter().map(|soak| {
        let Soak { subject, samples, hung, failures } = soak;
        let (succeeded, failed) = (samples.count(), failures.len() - *hung as usize);
        let (median, slowest) = (number(samples.percentile(50.0)), number(samples.percentile(100.0)));
        format!("| {} | {succeeded} | {hung} | {failed} | {median} | {slowest} |\n", subject.label())
    });
    format!("{head}{}", rows.collect::<String>())
}

/// Milliseconds, with one decimal below 100.
pub(super) fn number(millis: f64) -> String {
    if millis < 100.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}
