//! `bench pager`: the page server, compared with a bare fault loop, and the memory that sharing saves.

mod clone_group;
mod clone_process;
mod faults;
mod figures;
mod page;
mod sharing;

use anyhow::{Context, Result};

use super::report::{Report, SaveOptions};
use super::{announce, host};
use figures::Pager;

pub(super) use clone_process::{CloneOptions, run_clone};

/// The published page.
pub(super) const REPORT: Report<Pager> = Report {
    samples: "docs/reference/benchmarks/pager.json",
    page: "docs/reference/benchmarks-pager.md",
    render: page::render,
};

/// Options of `bench pager`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of rounds; each measures everything once
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Run only a few rounds, as a smoke test
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    #[command(flatten)]
    save: SaveOptions,
}

/// Measures everything and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    let rounds = if options.quick { 3 } else { options.rounds };
    let mut pager = Pager::new(host::describe()?);
    let dir = tempfile::Builder::new().prefix("mmb").tempdir()?;
    let memory = dir.path().join("memory");
    faults::write_memory(&memory)?;
    announce("rounds of faults", rounds);
    faults::measure(&mut pager, &memory, rounds)?;
    sharing::measure(&mut pager, &memory).context("memory")?;
    pager.host.load_at_end = host::load();
    println!("\n{}\n{}", page::faults(&pager), page::sharing(&pager));
    REPORT.save(&options.save, &pager)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_matches_the_committed_samples() {
        super::REPORT.assert_is_current();
    }
}
