//! The documentation page.

use crate::bench::result::Bench;
use crate::bench::table;

/// Renders the page for these samples.
pub(in crate::bench) fn render(bench: &Bench) -> String {
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

Made by `cargo xtask bench run --soak 100 --own-kernel HOME --publish`, after `make build`. All samples are in
[benchmarks/run.json](benchmarks/run.json), from which `cargo xtask bench page` regenerates this page. HOME is where
`MIMEO_HOME=HOME mimeo setup kernel --build` built mimeo's own kernel. No test asserts a time: figures depend on the machine and
its load, so compare ratios, and targets only on a quiet machine. Starts from boot snapshots and clones of machines are on a
separate page: [benchmarks-clone.md](benchmarks-clone.md); the manager's is [benchmarks-api.md](benchmarks-api.md).

## Method
- One busybox image, made from the host's static busybox, for mimeo and podman alike.
- The compared systems run in turn, once each, so that load on the host affects all. One run of each beforehand is not counted.
- A cold run is `run --cold --rm IMAGE echo`, which boots its guest. The first output is the first byte on the pipe, measured from
  just before the process is started.
- An exec over one session is measured from the request to the exit status, one after the other, by a client of mimeo's engine.
- podman runs with `--runtime runc` and with `--ulimit`s that a host with low limits permits.

## Host
";

const STAGES: &str = "\
## Stages of a cold run
From the log at `--log-level debug`, in whole milliseconds, in separate runs.
";

const SOAK: &str =
    "Whole commands, in milliseconds. A command that runs for more than a minute counts as hung.
";
