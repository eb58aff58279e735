//! The page of the documentation.

use super::figures::{Pager, Round, Series, Way};

/// The most times the bare loop's time that a fault may take.
const BAR: f64 = 1.3;
const MIB: f64 = 1_048_576.0;

/// The page for these figures.
pub(super) fn of(pager: &Pager) -> String {
    format!("{HEAD}\n{}\n## Faults\n{}\n{SHARING}\n{}", host(pager), faults(pager), sharing(pager))
}

fn host(pager: &Pager) -> String {
    let host = &pager.host;
    let rows = [
        ("taken", host.taken.clone()),
        ("processor", format!("{}, {} cores seen here", host.processor, host.cores)),
        ("memory", format!("{} MiB", host.memory_mib)),
        ("host's kernel", host.kernel.clone()),
        ("mimeo", host.commit.clone()),
        ("load average", format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end)),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

/// Times, with their ratios to the bare loop.
pub(super) fn faults(pager: &Pager) -> String {
    let head = "| clones | who | rounds | p50, us | p99, us | mean, us | pages a second | to the bare mean | bar |\n\
                |---:|---|---:|---:|---:|---:|---:|---:|---|\n";
    let mut all: Vec<_> = pager.faults.iter().collect();
    all.sort_by_key(|series| (series.setting.clones, !series.setting.one_processor));
    let rows = all.into_iter().map(|series| row(pager, series));
    format!("{head}{}", rows.collect::<String>())
}

fn row(pager: &Pager, series: &Series) -> String {
    let at = |of: fn(&Round) -> f64| series.median(of);
    let bare = pager.find(Way::Bare, series.setting).map_or(f64::NAN, |bare| bare.median(|round| round.mean));
    let ratio = at(|round| round.mean) / bare;
    let verdict = match (series.way, ratio <= BAR) {
        (Way::Server, true) => format!("{BAR} x: **met**"),
        (Way::Server, false) => format!("{BAR} x: **not met**"),
        _ => String::new(),
    };
    format!(
        "| {}{} | {} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {ratio:.2} | {verdict} |\n",
        series.setting.clones,
        if series.setting.one_processor { ", on one processor" } else { "" },
        words(series.way),
        series.rounds.len(),
        at(|round| round.p50),
        at(|round| round.p99),
        at(|round| round.mean),
        at(|round| round.pages_per_second),
    )
}

fn words(way: Way) -> &'static str {
    match way {
        Way::Bare => "bare loop",
        Way::Server => "server, a page for each fault",
        Way::Around => "server",
        Way::Ahead => "server, with the recorded working set",
    }
}

/// What clones cost.
pub(super) fn sharing(pager: &Pager) -> String {
    let head =
        "| clones | mapped, MiB | copied, MiB | each mapped | each copied |\n|---:|---:|---:|---:|---:|\n";
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

Made by `cargo xtask bench pager --publish` with a release build (`cargo run --release --package xtask -- bench pager`); every
round is in [benchmarks/pager.json](benchmarks/pager.json), from which `cargo xtask bench page` makes this page anew. No test
asserts a time: figures depend on the machine and its load, so compare ratios, and the bar only on a machine that is quiet.

## How
- A clone is a process that does what Firecracker does: it maps 64 MiB without content, registers them with a userfaultfd and hands
  that over. Then it touches each of its pages once, scattered, all clones at once, and takes the time of each touch. There is
  no guest and no KVM.
- **Bare loop**: for each clone a thread that waits in `read`, copies a page with `UFFDIO_COPY`, and does nothing else: no look at
  whether the clone lives, no events, no holes, no record.
- **Server, a page for each fault** does the same work; its bar is that of the design. **Server** is as it is by itself, with the
  pages that come along with each fault, where most touches find their page there. **With the recorded working set** each clone gets
  all pages that the clones of the round before had asked for, in the order of their addresses, while it begins to touch them.
- One clone is measured on one processor, too, with who serves it: where there are more, whether the kernel has the two take turns on one or
  wake each other up across two is luck, which makes a difference of ten times for either.
- The time per fault that the bar is for is the mean: all clones' time, by their touches. With several clones on few processors a fault is
  answered at once or after others had their turn, and the median falls on one side or the other.
- Of each round the median clone's median, 99th of 100 and mean are kept, and of the rounds the median is shown. Who is compared
  takes turns in each round.
- The memory file is in the page cache.

## Machine
";

const SHARING: &str = "\
## Memory
PSS of all clones, after each has read the same 64 MiB, without what the processes take anyway: from a private mapping of the
file (Firecracker's `File`), which the page cache shares, and copied by the server (`Uffd`), which nothing shares. What a clone
writes is its own either way.
";
