//! The documentation page.

use super::figures::{FaultHandler, Pager, Round, Series};

/// The maximum ratio of the time per fault to the bare loop's.
const TARGET: f64 = 1.3;
const MIB: f64 = 1_048_576.0;

/// Renders the page for these figures.
pub(super) fn render(pager: &Pager) -> String {
    format!("{HEAD}\n{}\n## Faults\n{}\n{SHARING}\n{}", host(pager), faults(pager), sharing(pager))
}

fn host(pager: &Pager) -> String {
    let host = &pager.host;
    let rows = [
        ("date", host.taken.clone()),
        ("processor", format!("{}, {} cores visible", host.processor, host.cores)),
        ("memory", format!("{} MiB", host.memory_mib)),
        ("host's kernel", host.kernel.clone()),
        ("mimeo", host.commit.clone()),
        ("load average", format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end)),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

/// The table of times, with their ratios to the bare loop.
pub(super) fn faults(pager: &Pager) -> String {
    let head = "| clones | fault handler | rounds | p50, us | p99, us | mean, us | pages per second | ratio to the bare mean | target |\n\
                |---:|---|---:|---:|---:|---:|---:|---:|---|\n";
    let mut all: Vec<_> = pager.faults.iter().collect();
    all.sort_by_key(|series| (series.setting.clones, !series.setting.one_processor));
    let rows = all.into_iter().map(|series| row(pager, series));
    format!("{head}{}", rows.collect::<String>())
}

fn row(pager: &Pager, series: &Series) -> String {
    let at = |figure: fn(&Round) -> f64| series.median(figure);
    let bare = pager
        .find(FaultHandler::BareLoop, series.setting)
        .map_or(f64::NAN, |bare| bare.median(|round| round.mean));
    let ratio = at(|round| round.mean) / bare;
    let verdict = match (series.handler, ratio <= TARGET) {
        (FaultHandler::ServerSinglePage, true) => format!("{TARGET} x: **met**"),
        (FaultHandler::ServerSinglePage, false) => format!("{TARGET} x: **not met**"),
        _ => String::new(),
    };
    format!(
        "| {}{} | {} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {ratio:.2} | {verdict} |\n",
        series.setting.clones,
        if series.setting.one_processor { ", on one processor" } else { "" },
        label(series.handler),
        series.rounds.len(),
        at(|round| round.p50),
        at(|round| round.p99),
        at(|round| round.mean),
        at(|round| round.pages_per_second),
    )
}

fn label(handler: FaultHandler) -> &'static str {
    match handler {
        FaultHandler::BareLoop => "bare loop",
        FaultHandler::ServerSinglePage => "server, one page per fault",
        FaultHandler::Server => "server",
        FaultHandler::ServerPrefetch => "server, with the recorded working set",
    }
}

/// The table of the clones' memory.
pub(super) fn sharing(pager: &Pager) -> String {
    let head =
        "| clones | mapped, MiB | copied, MiB | mapped, each | copied, each |\n|---:|---:|---:|---:|---:|\n";
    let rows = pager.sharing.iter().map(|cost| {
        let [mapped, copied] = [cost.mapped, cost.copied].map(|bytes| bytes as f64 / MIB);
        let each = |all: f64| all / cost.clones as f64;
        format!(
            "| {} | {mapped:.1} | {copied:.1} | {:.1} | {:.1} |\n",
            cost.clones,
            each(mapped),
            each(copied)
        )
    });
    format!("{head}{}", rows.collect::<String>())
}

const HEAD: &str = "\
# Benchmarks of the page server

Made by `cargo xtask bench pager --publish` with a release build (`cargo run --release --package xtask -- bench pager`). All
rounds are in [benchmarks/pager.json](benchmarks/pager.json), from which `cargo xtask bench page` regenerates this page. No test
asserts a time: figures depend on the machine and its load, so compare ratios, and the target only on a quiet machine.

## Method
- A clone is a process that does what Firecracker does: it maps 64 MiB without content, registers them with a userfaultfd and passes
  that to the server. Then it touches each of its pages once, in scattered order and at the same time as all other clones, and
  measures the time of each touch. There is no guest and no KVM.
- **Bare loop**: one thread per clone that waits in `read`, copies a page with `UFFDIO_COPY`, and does nothing else: it does not
  check whether the clone is alive, and handles no events, no holes and no record of pages.
- **Server, one page per fault** does the same work; its target is that of the design. **Server** is the default configuration, which
  copies several pages per fault, so that most touches find their page present. **With the recorded working set** each clone gets
  all pages that the clones of the previous round requested, in the order of their addresses, while it begins to touch them.
- One clone is also measured on one processor, together with its fault handler. With several processors it is chance whether the
  kernel runs the two on the same one or wakes one from the other across two, and that makes a tenfold difference for either.
- The target applies to the mean time per fault: the time of all clones, divided by their touches. With several clones on few
  processors a fault is answered either at once or after other clones have run, and the median is one or the other.
- For each round the median clone's median, 99th percentile and mean are recorded; the tables show the median over the rounds. All
  fault handlers take turns in each round.
- The memory file is in the page cache.

## Host
";

const SHARING: &str = "\
## Memory
PSS that all clones add by reading the same 64 MiB: from a private mapping of the file (Firecracker's `File`), which is shared through
the page cache, and copied by the server (`Uffd`), which is not shared. Pages that a clone writes are private in both cases.
";
