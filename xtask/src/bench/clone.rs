//! `bench clone`: what starts from a guest that has booted, and what that costs.

mod copy;
mod crowd;
mod disk;
pub(super) mod first_exec;
mod footprint;
mod page;
mod pause;
mod plain;
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

/// What is published.
pub(super) const PAGE: Page = Page {
    samples: "docs/reference/benchmarks/clone.json",
    files: &[
        ("docs/reference/benchmarks-clone.md", page::of),
        ("docs/reference/benchmarks/clone.svg", plot::of),
    ],
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Copies to their first exec; what takes longer is done a fifth as often
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(5..))]
    runs: u32,
    #[command(flatten)]
    common: Common,
}

/// How often what is done.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Copies, one after the other.
    copies: u32,
    /// Runs and forks.
    runs: u32,
    /// Crowds.
    crowds: u32,
    /// Copies in a crowd.
    crowd: u32,
    /// execs over one session.
    execs: u32,
}

impl Counts {
    fn of(options: &Options) -> Self {
        if options.common.quick {
            return Self { copies: 5, runs: 3, crowds: 1, crowd: 50, execs: 40 };
        }
        let runs = options.runs / 5;
        Self { copies: options.runs, runs, crowds: runs.div_ceil(4), crowd: 50, execs: options.runs * 4 }
    }
}

/// Measures all of it, and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let mut bench = super::begin(&lab)?;
    let podman = super::podman(&lab, &mut bench);
    let sites = super::sites(&lab, &options.common, &mut bench)?;
    all(&mut bench, &sites, podman.as_ref(), Counts::of(options))?;
    bench.host.load_at_end = host::load();
    println!("\n{}\n{}\n{}", summary::of(&bench), table::text(&bench), summary::memory(&bench));
    PAGE.keep(&options.common, &bench)
}

/// Each kernel is measured where it makes a difference, and Debian's for the rest.
fn all(bench: &mut Bench, sites: &[Site<'_>], podman: Option<&Podman>, counts: Counts) -> Result<()> {
    cold_run::measure(bench, sites, None, counts.runs)?;
    warm_run::measure(bench, sites, podman, counts.runs).context("warm runs")?;
    for site in sites {
        first_exec::measure(bench, site, counts.copies).context("copies")?;
        pool::measure(bench, site, counts.copies).context("copies from a pool")?;
    }
    let site = &sites[0];
    uncached::measure(bench, site, counts.runs).context("copies of memory on the disk")?;
    crowd::measure(bench, site, counts.crowds, counts.crowd).context("copies at once")?;
    pause::measure(bench, site, counts.runs).context("forks")?;
    pause::changed(bench, site, counts.runs).context("forks after work")?;
    footprint::measure(bench, site).context("memory")?;
    disk::measure(bench, site, counts.runs).context("disks")?;
    exec_session::measure(bench, site, counts.execs)
}
