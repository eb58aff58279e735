//! The page of the documentation.

use super::figures::{Figures, Net, Way};
use super::probe::MIB;
use crate::bench::samples::Samples;

/// The page for these samples.
pub(super) fn of(net: &Net) -> String {
    format!("{HEAD}\n{}\n## Figures\n{}", host(net), figures(net))
}

/// The table.
pub(super) fn figures(net: &Net) -> String {
    let rows: String = net.ways.iter().map(|figures| row(net, figures)).collect();
    format!(
        "| network | connect, ms p50 | p99 | MiB/s to it, p50 | from it, p50 | of the bare host's: connect | to it | from it |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n{rows}"
    )
}

fn row(net: &Net, figures: &Figures) -> String {
    let Figures { way, connect, to, from } = figures;
    let ratio = |own: f64, of: fn(&Figures) -> f64| match net.of(Way::Host) {
        Some(host) if *way != Way::Host => format!("{:.2} x", own / of(host)),
        _ => String::new(),
    };
    format!(
        "| {} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {} | {} |\n",
        way.words(),
        connect.percentile(50.0),
        connect.percentile(99.0),
        speed(to),
        speed(from),
        ratio(connect.percentile(50.0), |host| host.connect.percentile(50.0)),
        ratio(speed(to), |host| speed(&host.to)),
        ratio(speed(from), |host| speed(&host.from)),
    )
}

/// MiB per second.
fn speed(millis: &Samples) -> f64 {
    f64::from(MIB) * 1000.0 / millis.percentile(50.0)
}

fn host(net: &Net) -> String {
    let host = &net.host;
    let rows = [
        ("taken", host.taken.clone()),
        ("processor", format!("{}, {} cores seen here", host.processor, host.cores)),
        ("host's kernel", host.kernel.clone()),
        ("QEMU", host.qemu.clone()),
        ("guest's kernel", net.guest_kernel.clone()),
        ("mimeo", host.commit.clone()),
        ("load average", format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end)),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

const HEAD: &str = "\
# Benchmarks of networks

Made by `cargo xtask bench net --publish`, after `make build`, as root; every sample is in [benchmarks/net.json](benchmarks/net.json), from
which `cargo xtask bench page` makes this page anew. No test asserts a time: compare ratios.

## How
- One static program at the other end, on the host itself and in machines; the client is on the host. All are measured in turn, once in
  each round; the first round is not counted.
- connect: from the connect to the first byte that the other end says at once, 50 connections in a row.
- MiB/s: 64 MiB in one connection, to the other end's acknowledgement, or to the last byte.
- Without KVM the guest's own network stack is translated, and is most of what a machine's figures tell.

## Machine
";
