//! The documentation page.

use super::figures::{Api, Call, MEMORY_RECORDS, Start};

/// Renders the page for these samples.
pub(super) fn render(api: &Api) -> String {
    format!("{HEAD}\n{}\n## Figures\n{}", host(api), figures(api))
}

/// All tables.
pub(super) fn figures(api: &Api) -> String {
    let starts: String = api.starts.iter().map(start).collect();
    let lists: String = api.lists.iter().map(call).collect();
    let calls: String = api.calls.iter().map(call).collect();
    format!(
        "From the request for a machine to the result of its first exec, milliseconds:\n\n\
         | machine of | clients | p50 | p95 | p99 | creation alone, p50 | machines |\n|---|---:|---:|---:|---:|---:|---:|\n{starts}\n\
         Lists, with {} records, milliseconds:\n\n| list | p50 | p95 | p99 | per second, 4 clients |\n|---|---:|---:|---:|---:|\n{lists}\n\
         Calls, with {MEMORY_RECORDS} records, milliseconds:\n\n| call | p50 | p95 | p99 | per second, 4 clients |\n|---|---:|---:|---:|---:|\n{calls}\n\
         The manager's memory (PSS) with {MEMORY_RECORDS} records, after these calls: {:.1} MiB.\n",
        api.records,
        api.memory_kib as f64 / 1024.0,
    )
}

fn start(start: &Start) -> String {
    let Start { origin, clients, millis, creation } = start;
    format!(
        "| {origin} | {clients} | {:.1} | {:.1} | {:.1} | {:.1} | {} |\n",
        millis.percentile(50.0),
        millis.percentile(95.0),
        millis.percentile(99.0),
        creation.percentile(50.0),
        millis.count(),
    )
}

fn call(call: &Call) -> String {
    let Call { label, millis, per_second } = call;
    let rate = per_second.map_or_else(String::new, |rate| format!("{rate:.0}"));
    format!(
        "| {label} | {:.2} | {:.2} | {:.2} | {rate} |\n",
        millis.percentile(50.0),
        millis.percentile(95.0),
        millis.percentile(99.0),
    )
}

fn host(api: &Api) -> String {
    let host = &api.host;
    let rows = [
        ("date", host.taken.clone()),
        ("processor", format!("{}, {} cores visible", host.processor, host.cores)),
        ("host's kernel", host.kernel.clone()),
        ("QEMU", host.qemu.clone()),
        ("guest's kernel", api.guest_kernel.clone()),
        ("mimeo", host.commit.clone()),
        ("load average", format!("{} at the start, {} at the end", host.load_at_start, host.load_at_end)),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}

const HEAD: &str = "\
# Benchmarks of the manager

Made by `cargo xtask bench api --publish`, after `make build`. All samples are in [benchmarks/api.json](benchmarks/api.json), from which
`cargo xtask bench page` regenerates this page. No test asserts a time.

## Method
- The manager, its clients and the machines share the host's processors. Each client sends its requests over one connection: a POST with `?wait=`,
  then a POST of `true` to that machine's `/exec`. The removal that follows is not measured. A single client that takes machines from the pool waits until it is
  full again; several do not.
- \"Without the manager\" is the same from the same pool by the engine's library, in the measuring process, by turns with the manager. The difference is the manager's own part.
- The records of lists are copies of one machine's record, of machines that could not be created.

## Host
";
