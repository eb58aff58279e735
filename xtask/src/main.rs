//! Chores: `cargo xtask demo`, `cargo xtask bench run`, `cargo xtask soak`.

#![allow(clippy::print_stdout, reason = "a chore talks to whoever started it")]

mod bench;
mod demo;
mod narrate;
mod soak;

use clap::{Parser, Subcommand};

/// mimeo's chores.
#[derive(Debug, Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Show what mimeo does: a real nginx in a microVM, from packages to page
    Demo,
    /// Measure how long things take
    Bench {
        #[command(subcommand)]
        chore: bench::Chore,
    },
    /// Start, clone, fork and kill machines under load for as long as asked, and keep evidence of silent guests
    Soak(soak::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Bench { chore } => bench::run(chore),
        Chore::Soak(options) => soak::run(&options),
    }
}
