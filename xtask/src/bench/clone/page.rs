//! The documentation page.

use super::summary;
use crate::bench::result::Bench;
use crate::bench::table;

/// Renders the page for these samples.
pub(in crate::bench) fn render(bench: &Bench) -> String {
    let notes: String = bench.notes.iter().map(|note| format!("- {note}\n")).collect();
    format!(
        "{HEAD}\n{}\n## Targets\n{}\n{PLOT}\n## Figures\nMilliseconds.\n\n{}\n{notes}\n{STAGES}\n{}\n{MEMORY}\n{}",
        table::host(bench),
        summary::targets(bench),
        table::series(bench),
        table::stages(bench),
        summary::memory(bench),
    )
}

const HEAD: &str = "\
# Benchmarks of snapshots, clones and forks

Made by `cargo xtask bench clone --own-kernel HOME --publish`, after `make build`. All samples are in
[benchmarks/clone.json](benchmarks/clone.json), from which `cargo xtask bench page` regenerates this page and its plot. No test
asserts a time: figures depend on the machine and its load, so compare ratios, and targets only on a quiet machine.
Cold runs and execs are compared with podman in [benchmarks.md](benchmarks.md).

## Method
- One busybox image, made from the host's static busybox, for mimeo and podman alike. Guests have one vCPU, and 512 MiB unless
  stated otherwise. The compared systems run in turn, once each.
- **Clone, to its first exec**: from just before a supervisor's process is started and told which snapshot to clone, as
  `snapshot run` and the engine's calls do it, until `true` in the clone has returned its exit status over a session with that
  supervisor. The target is that of the design. The same steps with two commands, `snapshot run` and then `exec`, include two
  processes and everything that they print and wait for; they have no target. The snapshot is of a machine that had run `true`
  once. The first clone of a snapshot, which flattens its memory into one file and makes the stencil that later clones are
  restored from (decision 8), is not counted.
- **Memory not cached**: the same, after the kernel has dropped the pages of all files that clones map, the guest's memory and the
  process checkpoint (`posix_fadvise`, after a sync), without and with read-ahead of the snapshot's working set, in turn. The
  storage below this machine's disk may still have them cached.
- **From a pool**: the same, requested from `snapshot serve --pool 2`. Between two samples the pool has time to fill again, and
  200 ms more.
- **Clones at once**: from the start of one `snapshot run -n` until each clone has answered an exec; a clone that does not counts
  as failed.
- **Plain QEMU** boots the same kernel, initramfs and command line without disks and network, from QEMU's start until the agent's
  hello over a serial port: less work than a `run`.
- **Fork**: the pause is the one in the output of `fork --json`. The longest wait is that of a client that requests a page from the
  source's busybox httpd over a new connection, 2 ms after each response, between two responses, during the whole command,
  including the start of the clone on the same processors. The line without a fork shows how long the client waits anyway.
  A source is replaced after five forks. After writes: sources of 1 GiB that have written that much to a file in memory.
- **Memory**: the output of `stats --no-stream --json`, 3 s after the start, and 3 s after each clone has run three commands
  and written 16 MiB to its disk. PSS counts a page that n processes map as one n-th for each; unique is the memory that
  a clone's end would free. The memory of one more clone is the PSS of all minus that of one, for each beyond the first.
- **Disk**: the stage that links the layers and creates an empty one, in whole milliseconds, from `snapshot run --json`. The
  first clone of a snapshot flattens its memory in an earlier stage, outside of any pause.
- Not here: a page server's time per fault, which has [its own page](benchmarks-pager.md), and restores with KVM, which this
  machine does not support: **not measured**.
- podman runs with `--runtime runc` and with `--ulimit`s that a host with low limits permits.

## Host
";

const PLOT: &str = "\
![Samples of each line, on a scale of powers of ten, and their targets](benchmarks/clone.svg)

Each dot is a sample, blue for mimeo and violet for others; the vertical line is the median, the triangle the target of the median.
Values beyond the scale are drawn at its edge.
";

const STAGES: &str = "\
## Stages
Whole milliseconds, rounded down: `run` from the log at `--log-level debug`, in separate runs; `clone` from the clones above that
were started without a pool.
";

const MEMORY: &str = "\
## Memory of clones
MiB, for the processes of the VMM and of mimeo's supervisor. Guests of 512 MiB.
";
