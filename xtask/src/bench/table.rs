//! Tables in Markdown, of which a terminal's reader can make sense too.

use super::result::{Bar, Bench, Key, Series, Soak, What, bar};
use super::samples::Samples;

/// All tables, for a terminal.
pub(super) fn text(bench: &Bench) -> String {
    let parts = [host(bench), series(bench), stages(bench), soaks(bench)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The machine.
pub(super) fn host(bench: &Bench) -> String {
    let host = &bench.host;
    let mut rows = vec![
        ("taken", host.taken.clone()),
        ("processor", format!("{}, {} cores seen here", host.processor, host.cores)),
        ("memory", format!("{} MiB", host.memory_mib)),
        ("host's kernel", host.kernel.clone()),
        ("accelerator", bench.accelerator.clone()),
        ("QEMU", host.qemu.clone()),
        ("podman", bench.podman.clone().unwrap_or_else(|| "not measured".to_owned())),
    ];
    rows.extend(bench.kernels.iter().map(|(key, name)| match key {
        Key::MimeoOwn => ("our kernel", name.clone()),
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

/// What was measured, with its bar and its ratio to podman.
pub(super) fn series(bench: &Bench) -> String {
    let head = "| what | who | n | min | p50 | p90 | p99 | max | bar | to podman's p50 |\n\
                |---|---|---:|---:|---:|---:|---:|---:|---|---|\n";
    let rows: String = bench.series.iter().map(|series| row(bench, series)).collect();
    format!("{head}{rows}")
}

fn row(bench: &Bench, series: &Series) -> String {
    let Series { what, key, millis } = series;
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        what.words(),
        key.words(),
        millis.count(),
        percentiles(millis),
        verdict(bench, *what, *key, millis),
        ratios(bench, *what, *key, millis)
    )
}

fn percentiles(samples: &Samples) -> String {
    let at = [0.0, 50.0, 90.0, 99.0, 100.0].map(|percent| number(samples.percentile(percent)));
    at.join(" | ")
}

fn verdict(bench: &Bench, what: What, key: Key, samples: &Samples) -> String {
    let Some(bar) = bar(what, key) else { return String::new() };
    let met = match is_met(bench, bar, what, samples) {
        Some(true) => "met",
        Some(false) => "not met",
        None => "not to be said",
    };
    format!("{}: **{met}**", bar_words(bar))
}

/// A bar in words.
pub(super) fn bar_words(bar: Bar) -> String {
    match bar {
        Bar::Millis { p50, p99: None } => format!("p50 {p50} ms"),
        Bar::Millis { p50, p99: Some(p99) } => format!("p50 {p50} ms, p99 {p99} ms"),
        Bar::ToPodman(ratio) => format!("{ratio} x podman"),
    }
}

/// Whether samples meet a bar; none without those that it compares them to.
pub(super) fn is_met(bench: &Bench, bar: Bar, what: What, samples: &Samples) -> Option<bool> {
    let at = |percent| samples.percentile(percent);
    match bar {
        Bar::Millis { p50, p99 } => Some(at(50.0) <= p50 && p99.is_none_or(|p99| at(99.0) <= p99)),
        Bar::ToPodman(most) => Some(ratio(bench, what, Key::Podman, samples)? <= most),
    }
}

/// How many times podman's time it takes; with podman's network first.
fn ratios(bench: &Bench, what: What, key: Key, samples: &Samples) -> String {
    if !key.is_mimeo() {
        return String::new();
    }
    let told = [
        ratio(bench, what, Key::Podman, samples).map(|ratio| format!("{ratio:.2}")),
        ratio(bench, what, Key::PodmanNoNetwork, samples).map(|ratio| format!("{ratio:.2} (no network)")),
    ];
    told.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How many times a peer's median.
pub(super) fn ratio(bench: &Bench, what: What, peer: Key, samples: &Samples) -> Option<f64> {
    Some(samples.percentile(50.0) / bench.find(what, peer)?.percentile(50.0))
}

/// Where the time goes.
pub(super) fn stages(bench: &Bench) -> String {
    let head = "| stage | who | n | min | p50 | p90 | p99 | max |\n|---|---|---:|---:|---:|---:|---:|---:|\n";
    let rows = bench.stages.iter().map(|stage| {
        let (count, at) = (stage.millis.count(), percentiles(&stage.millis));
        format!("| {} | {} | {count} | {at} |\n", stage.stage, stage.key.words())
    });
    format!("{head}{}", rows.collect::<String>())
}

/// Boots in a row; nothing when there were none.
pub(super) fn soaks(bench: &Bench) -> String {
    if bench.soaks.is_empty() {
        return String::new();
    }
    let head = "| boots in a row | well | hung | failed | p50 | slowest |\n|---|---:|---:|---:|---:|---:|\n";
    let rows = bench.soaks.iter().map(|soak| {
        let Soak { key, samples, hung, failures } = soak;
        let (well, failed) = (samples.count(), failures.len() - *hung as usize);
        let (median, slowest) = (number(samples.percentile(50.0)), number(samples.percentile(100.0)));
        format!("| {} | {well} | {hung} | {failed} | {median} | {slowest} |\n", key.words())
    });
    format!("{head}{}", rows.collect::<String>())
}

/// Milliseconds, with as many digits as mean something.
pub(super) fn number(millis: f64) -> String {
    if millis < 100.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}
