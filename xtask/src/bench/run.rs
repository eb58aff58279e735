//! `bench run`: cold runs and execs.

mod page;

use anyhow::Result;

use super::lab::Lab;
use super::{Common, Page};
use super::{cold_run, exec_command, exec_session, host, soak, stages, table};

/// What is published.
pub(super) const PAGE: Page = Page {
    samples: "docs/reference/benchmarks/run.json",
    files: &[("docs/reference/benchmarks.md", page::of)],
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Cold runs; commands are run twice and calls twenty times as often
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Boot this often in a row besides, and see that none hangs
    #[arg(long, default_value_t = 0, value_name = "N")]
    soak: u32,
    #[command(flatten)]
    common: Common,
}

/// Measures all of it, and prints a table.
pub(super) fn measure(options: &Options) -> Result<()> {
    let common = &options.common;
    let runs = if common.quick { 3 } else { options.runs };
    let lab = Lab::new()?;
    let mut bench = super::begin(&lab)?;
    let podman = super::podman(&lab, &mut bench);
    let sites = super::sites(&lab, common, &mut bench)?;
    cold_run::measure(&mut bench, &sites, podman.as_ref(), runs)?;
    stages::measure(&mut bench, &sites, runs)?;
    exec_command::measure(&mut bench, &sites[0], podman.as_ref(), runs * 2)?;
    exec_session::measure(&mut bench, &sites[0], runs * 20)?;
    for site in &sites {
        soak::measure(&mut bench, site, options.soak)?;
    }
    bench.host.load_at_end = host::load();
    println!("\n{}", table::text(&bench));
    PAGE.keep(common, &bench)
}
