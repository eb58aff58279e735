//! The documentation page.

use super::figures::{Figures, Net, NetworkPath};
use super::probe::MIB;
use crate::bench::samples::Samples;

/// Renders the page for these samples.
pub(super) fn render(net: &Net) -> String {
    format!("{HEAD}\n{}\n## Figures\n{}", host(net), figures(net))
}

/// The table of all paths.
pub(super) fn figures(net: &Net) -> String {
    let rows: String = net.paths.iter().map(|figures| row(net, figures)).collect();
    format!(
        "| network | connect, ms p50 | p99 | send, MiB/s p50 | receive, MiB/s p50 | ratio to the host: connect | send | receive |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n{rows}"
    )
}

fn row(net: &Net, figures: &Figures) -> String {
    let Figures { path, connect, send, receive } = figures;
    let ratio = |value: f64, host_value: fn(&Figures) -> f64| match net.find(NetworkPath::Host) {
        Some(host) if *path != NetworkPath::Host => format!("{:.2} x", value / host_value(host)),
        _ => String::new(),
    };
    format!(
        "| {} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {} | {} |\n",
        path.label(),
        connect.percentile(50.0),
        connect.percentile(99.0),
        speed(send),
        speed(receive),
        ratio(connect.percentile(50.0), |host| host.connect.percentile(50.0)),
        ratio(speed(send), |host| speed(&host.send)),
        ratio(speed(receive), |host| speed(&host.receive)),
    )
}

/// MiB per second.
fn speed(millis: &Samples) -> f64 {
    f64::from(MIB) * 1000.0 / millis.percentile(50.0)
}

fn host(net: &Net) -> String {
    let host = &net.host;
    let rows = [
        ("date", host.taken.clone()),
        ("processor", format!("{}, {} cores visible", host.processor, host.cores)),
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

Made by `cargo xtask bench net --publish`, after `make build`, as root. All samples are in [benchmarks/net.json](benchmarks/net.json), from
which `cargo xtask bench page` regenerates this page. No test asserts a time: compare ratios.

## Method
- The peer is one static program, on the host and in machines; the client runs on the host. All networks are measured in turn, once in
  each round; the first round is not counted.
- Connect: from the connect to the first byte, which the peer sends immediately; 50 connections in a row.
- MiB/s: 64 MiB over one connection, until the peer's acknowledgement (send) or until the last byte (receive).
- Without KVM the guest's network stack runs under TCG, which dominates the figures of machines.

## Host
";
