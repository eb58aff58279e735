//! `bench clone`: starts from snapshots, and their memory.

mod concurrent;
mod disk;
mod engine_clone;
pub(super) mod first_exec;
mod footprint;
mod page;
mod pause;
mod plain_boot;
pub(super) mod poller;
pub(super) mod pool;
mod source;
mod summary;
mod uncached;
mod warm_run;

use anyhow::{Context, Result};

use super::lab::{Lab, Site};
use super::podman::Podman;
use super::result::Bench;
use super::{Common, Page, cold_run, exec_session, host, plot, table};

/// The published files.
pub(super) const PAGE: Page = Page {
    samples: "docs/reference/benchmarks/clone.json",
    files: &[
        ("docs/reference/benchmarks-clone.md", page::render),
        ("docs/reference/benchmarks/clone.svg", plot::render),
    ],
};

/// Options of `bench clone`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of clones to their first exec; slower measurements run a fifth as often
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(5..))]
    runs: u32,
    #[command(flatten)]
    common: Common,
}

/// How often each measurement runs.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Clones, one after the other.
    clones: u32,
    /// Runs and forks.
    runs: u32,
    /// Concurrent starts.
    concurrent_starts: u32,
    /// Clones in a concurrent start.
    concurrent_clones: u32,
    /// execs over one session.
    execs: u32,
}

impl Counts {
    fn new(options: &Options) -> Self {
        if options.common.quick {
            return Self { clones: 5, runs: 3, concurrent_starts: 1, concurrent_clones: 50, execs: 40 };
        }
        let runs = options.runs / 5;
        Self {
            clones: options.runs,
            runs,
            concurrent_starts: runs.div_ceil(4),
            concurrent_clones: 50,
            execs: options.runs * 4,
        }
    }
}

/// Measures everything and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let mut bench = super::new_bench(&lab)?;
    let podman = super::podman(&lab, &mut bench);
    let sites = super::prepare_sites(&lab, &options.common, &mut bench)?;
    measure_all(&mut bench, &sites, podman.as_ref(), Counts::new(options))?;
    bench.host.load_at_end = host::load();
    println!("\n{}\n{}\n{}", summary::targets(&bench), table::all(&bench), summary::memory(&bench));
    PAGE.save(&options.common, &bench)
}

/// Measures every kernel where it makes a difference, and otherwise only Debian's.
fn measure_all(bench: &mut Bench, sites: &[Site<'_>], podman: Option<&Podman>, counts: Counts) -> Result<()> {
    cold_run::measure(bench, sites, None, counts.runs)?;
    warm_run::measure(bench, sites, podman, counts.runs).context("warm runs")?;
    for site in sites {
        first_exec::measure(bench, site, counts.clones).context("clones")?;
        pool::measure(bench, site, counts.clones).context("clones from a pool")?;
    }
    let site = &sites[0];
    uncached::measure(bench, site, counts.runs).context("clones with uncached memory")?;
    concurrent::measure(bench, site, counts.concurrent_starts, counts.concurrent_clones)
        .context("clones at once")?;
    pause::measure(bench, site, counts.runs).context("forks")?;
    pause::measure_after_writes(bench, site, counts.runs).context("forks after writes")?;
    footprint::measure(bench, site).context("memory")?;
    disk::measure(bench, site, counts.runs).context("disks")?;
    exec_session::measure(bench, site, counts.execs)
}
