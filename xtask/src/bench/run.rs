//! `bench run`: cold runs and execs.

mod page;

use anyhow::Result;

use super::lab::Lab;
use super::{Common, Page};
use super::{cold_run, exec_command, exec_session, host, soak, stages, table};

/// The published page.
pub(super) const PAGE: Page = Page {
    samples: "docs/reference/benchmarks/run.json",
    files: &[("docs/reference/benchmarks.md", page::render)],
};

/// Options of `bench run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of cold runs; exec commands run twice as often, exec calls twenty times
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Also boot this many times in a row, and count hangs
    #[arg(long, default_value_t = 0, value_name = "N")]
    soak: u32,
    #[command(flatten)]
    common: Common,
}

/// Measures everything and prints a table.
pub(super) fn measure(options: &Options) -> Result<()> {
    let common = &options.common;
    let runs = if common.quick { 3 } else { options.runs };
    let lab = Lab::new()?;
    let mut bench = super::new_bench(&lab)?;
    let podman = super::podman(&lab, &mut bench);
    let sites = super::prepare_sites(&lab, common, &mut bench)?;
    cold_run::measure(&mut bench, &sites, podman.as_ref(), runs)?;
    stages::measure(&mut bench, &sites, runs)?;
    exec_command::measure(&mut bench, &sites[0], podman.as_ref(), runs * 2)?;
    exec_session::measure(&mut bench, &sites[0], runs * 20)?;
    for site in &sites {
        soak::measure(&mut bench, site, options.soak)?;
    }
    bench.host.load_at_end = host::load();
    println!("\n{}", table::all(&bench));
    PAGE.save(common, &bench)
}
