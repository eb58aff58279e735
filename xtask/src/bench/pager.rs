//! `bench pager`: the page server beside the least that one can be, and what sharing memory saves.

mod crowd;
mod faults;
mod figures;
mod guest;
mod page;
mod sharing;

use anyhow::{Context, Result};

use super::sheet::{Keep, Sheet};
use super::{announce, host};
use figures::Pager;

pub(super) use guest::{Guest, play};

/// What is published.
pub(super) const SHEET: Sheet<Pager> = Sheet {
    samples: "docs/reference/benchmarks/pager.json",
    page: "docs/reference/benchmarks-pager.md",
    of: page::of,
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds, in each of which everything is done once
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A few rounds: to see that it works
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    #[command(flatten)]
    keep: Keep,
}

/// Measures all of it, and prints the tables.
pub(super) fn measure(options: &Options) -> Result<()> {
    let rounds = if options.quick { 3 } else { options.rounds };
    let mut pager = Pager::new(host::describe()?);
    let folder = tempfile::Builder::new().prefix("mmb").tempdir()?;
    let memory = folder.path().join("memory");
    faults::lay_out(&memory)?;
    announce("rounds of faults", rounds);
    faults::measure(&mut pager, &memory, rounds)?;
    sharing::measure(&mut pager, &memory).context("memory")?;
    pager.host.load_at_end = host::load();
    println!("\n{}\n{}", page::faults(&pager), page::sharing(&pager));
    SHEET.keep(&options.keep, &pager)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_made_from_the_samples_that_are_kept() {
        super::SHEET.assert_is_current();
    }
}
