//! The page of the documentation.

use crate::bench::result::Bench;
use crate::bench::table;

/// The page for these samples.
pub(in crate::bench) fn of(bench: &Bench) -> String {
    let notes: String = bench.notes.iter().map(|note| format!("- {note}\n")).collect();
    let soaks = table::soaks(bench);
    let soaks = if soaks.is_empty() { "Not run.\n".to_owned() } else { soaks };
    format!(
        "{HEAD}\n{}\n## Figures\nMilliseconds.\n\n{}\n{notes}\n{STAGES}\n{}\n## Boots in a row\n{SOAK}\n{soaks}",
        table::host(bench),
        table::series(bench),
        table::stages(bench),
    )
}

const HEAD: &str = "\
# Benchmarks

Made by `cargo xtask bench run --soak 100 --own-kernel HOME --publish`, after `make build`; every sample is in
[benchmarks/run.json](benchmarks/run.json), from which `cargo xtask bench page` makes this page anew. HOME is where
`MIMEO_HOME=HOME mimeo setup kernel --build` built our kernel. No test asserts a time: figures depend on the machine and its
load, so compare ratios, and bars only on a machine that is quiet. What starts from a guest that has booted, and copies of
machines, are on a page of their own: [benchmarks-clone.md](benchmarks-clone.md).

## How
- One busybox image, made from the host's own static busybox, for mimeo and podman alike.
- Who is compared runs in turn, once each, so that a busy moment hits all. One run of each beforehand is not counted.
- A cold run is `run --cold --rm IMAGE echo`, which boots its guest; the first output is the first byte on the pipe, from just
  before the process is started.
- exec over one session is from the request to the exit status, one after the other, by a client of mimeo's engine.
- podman runs with `--runtime runc` and `--ulimit`s that a host with low limits admits.

## Machine
";

const STAGES: &str = "\
## Stages of a cold run
As `--log-level debug` tells them, whole milliseconds, in runs of their own.
";

const SOAK: &str = "Whole commands, milliseconds. One that says nothing for a minute has hung.
";
