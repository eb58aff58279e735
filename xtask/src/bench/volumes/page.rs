//! The documentation page.

use super::figures::{Subject, Volumes};

/// What is measured, and how it is called in the table.
const MEASUREMENTS: [(&str, &str); 8] = [
    ("write", "write a large file"),
    ("read", "read it again"),
    ("create", "create and write a small file"),
    ("list", "list its directory, per file"),
    ("stat", "stat one"),
    ("open", "open, read and close one"),
    ("rename", "rename one"),
    ("unlink", "remove one"),
];

/// Renders the page for these samples.
pub(super) fn render(volumes: &Volumes) -> String {
    format!("{HEAD}\n{}\n## Figures\n{}", host(volumes), figures(volumes))
}

/// The table of all measurements.
pub(super) fn figures(volumes: &Volumes) -> String {
    let rows: String =
        MEASUREMENTS.iter().map(|(measurement, label)| row(volumes, measurement, label)).collect();
    format!(
        "| p50 | shared directory | the machine's own disk | podman's bind mount | host | shared, ratio to podman | \
         to the own disk |\n|---|---:|---:|---:|---:|---:|---:|\n{rows}"
    )
}

fn row(volumes: &Volumes, measurement: &str, label: &str) -> String {
    let median = |subject| volumes.median(subject, measurement).unwrap_or(f64::NAN);
    let figure = |subject| quantity(volumes, measurement, median(subject));
    let ratio = |subject| median(Subject::Shared) / median(subject);
    format!(
        "| {label} | {} | {} | {} | {} | {:.1} x | {:.1} x |\n",
        figure(Subject::Shared),
        figure(Subject::Disk),
        figure(Subject::Podman),
        figure(Subject::Host),
        ratio(Subject::Podman),
        ratio(Subject::Disk),
    )
}

/// A speed for large files, and a time for each small one.
fn quantity(volumes: &Volumes, measurement: &str, millis: f64) -> String {
    match measurement {
        "write" | "read" => format!("{:.0} MiB/s", f64::from(volumes.mib) * 1000.0 / millis),
        _ => format!("{:.1} µs", millis * 1000.0 / f64::from(volumes.files)),
    }
}

fn host(volumes: &Volumes) -> String {
    let host = &volumes.host;
    let rows = [
        ("date", host.taken.clone()),
        ("processor", format!("{}, {} cores visible", host.processor, host.cores)),
        ("host's kernel", host.kernel.clone()),
        ("QEMU", host.qemu.clone()),
        ("guest's kernel", volumes.guest_kernel.clone()),
        ("podman", volumes.podman.clone()),
        ("mimeo", host.commit.clone()),
        ("files", format!("one of {} MiB, {} of 100 bytes", volumes.mib, volumes.files)),
        ("load average", format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end)),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

const HEAD: &str = "\
# Benchmarks of shared directories

Made by `cargo xtask bench volumes --publish`, after `make build`. All samples are in [benchmarks/volumes.json](benchmarks/volumes.json), from
which `cargo xtask bench page` regenerates this page. No test asserts a time: compare ratios.

## Method
- One static program runs in four locations, in turn, once in each round: in a directory that a machine shares with the host; on the machine's
  own disk; in podman's bind mount of the same directory; and in the directory itself, on the host.
- The large file is written and read in pieces of 1 MiB, without a sync. The small files are in one directory, and each step is done for all of
  them before the next.
- Without KVM everything in the guest runs under TCG: its own disk, measured by the same program, shows what the shared directory
  itself costs.

## Host
";
