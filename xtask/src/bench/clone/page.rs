//! The page of the documentation.

use super::summary;
use crate::bench::result::Bench;
use crate::bench::table;

/// The page for these samples.
pub(in crate::bench) fn of(bench: &Bench) -> String {
    let notes: String = bench.notes.iter().map(|note| format!("- {note}\n")).collect();
    format!(
        "{HEAD}\n{}\n## Against the bars\n{}\n{PLOT}\n## Figures\nMilliseconds.\n\n{}\n{notes}\n{STAGES}\n{}\n{MEMORY}\n{}",
        table::host(bench),
        summary::of(bench),
        table::series(bench),
        table::stages(bench),
        summary::memory(bench),
    )
}

const HEAD: &str = "\
# Benchmarks of snapshots, copies and forks

Made by `cargo xtask bench clone --own-kernel HOME --publish`, after `make build`; every sample is in
[benchmarks/clone.json](benchmarks/clone.json), from which `cargo xtask bench page` makes this page and its plot anew. No test
asserts a time: figures depend on the machine and its load, so compare ratios, and bars only on a machine that is quiet.
Cold runs and execs beside podman's are in [benchmarks.md](benchmarks.md).

## How
- One busybox image, made from the host's own static busybox, for mimeo and podman alike. Guests have one processor, and
  512 MiB where nothing else is said. Who is compared runs in turn, once each.
- **Copy, to its first exec**: from just before a monitor's process is started and told which snapshot to copy, as
  `snapshot run` and the engine's calls do it, until `true` in the copy has answered with its exit status over a session
  with that monitor. Its bar is that of the design. Beside it stand the same steps by two commands, `snapshot run` and then
  `exec`, one process each, with all that those print and wait for; they have no bar of their own. The snapshot is of a
  machine that had run `true` once. The first copy of a snapshot, which lays its memory out and makes what those after it begin
  as (decision 8), is not counted here.
- **Memory on the disk**: the same as the copies above, after the kernel was told to drop the pages of all that copies map, guest's
  memory and kept process (`posix_fadvise`, after a sync): without and with the note of which pages of the guest's memory a copy
  needs first, in turn. What is below the disk of this machine may hold them still.
- **From a pool**: the same, asked of `snapshot serve --pool 2`. Between two samples the pool has time to fill again, and 200 ms more.
- **Copies at once**: from the start of one `snapshot run -n` until each copy has answered an exec; a copy that does not is lost.
- **Plain QEMU** is a boot of the same kernel, first filesystem and command line without disks and network, from QEMU's start
  until the agent has said hello over a serial port: less than a `run` does.
- **Fork**: the pause is what `fork --json` tells. The longest wait is that of a client which asks the source's busybox httpd
  for a page over a new connection, 2 ms after each answer, between two answers, while the whole command runs, the
  start of the child on the same processors included; the line without a fork says what it waits anyway. A source is
  replaced by a new one after five forks. After work: sources of 1 GiB that have written so much to a file in memory.
- **Memory**: what `stats --no-stream --json` tells 3 s after the start, and 3 s after each copy has run three commands
  and written 16 MiB to its disk. PSS counts a page that n processes map as one n-th for each; unique is what
  a copy's end would free. What one more copy costs is the PSS of all, less that of one, for each beyond the first.
- **Disk**: the stage that links the layers and makes an empty one, in whole milliseconds, as `snapshot run --json` tells it. The
  first copy of a snapshot lays out its memory, outside of any pause, in a stage before.
- Not here: a page server's time per fault, which has [a page of its own](benchmarks-pager.md), and
  restores with KVM, which this machine cannot show: **not measured**.
- podman runs with `--runtime runc` and `--ulimit`s that a host with low limits admits.

## Machine
";

const PLOT: &str = "\
![Samples of each line, on a scale of powers of ten, and their bars](benchmarks/clone.svg)

Each dot is a sample, blue of mimeo and violet of others, the upright line the median, the triangle the bar of the median. What lies
beyond the scale stands at its edge.
";

const STAGES: &str = "\
## Stages
Whole milliseconds, rounded down: `run` as `--log-level debug` tells them, in runs of their own; `copy` of the copies above that were
made without a pool.
";

const MEMORY: &str = "\
## Memory of copies
MiB; the virtual machine monitor's process and mimeo's own. Guests of 512 MiB.
";
