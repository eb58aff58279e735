//! Chores: `cargo xtask demo`, `cargo xtask bench run`, `cargo xtask kvm-host run`, `cargo xtask soak`.

#![allow(clippy::print_stdout, reason = "a chore talks to whoever started it")]

mod bench;
mod demo;
mod kvm_host;
mod narrate;
mod soak;

use std::process::ExitCode;

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
    /// Emulate a host with KVM, to try mimeo on it
    KvmHost {
        #[command(subcommand)]
        chore: kvm_host::Chore,
    },
    /// Start, clone, fork and kill machines under load for as long as asked, and keep evidence of silent guests
    Soak(soak::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Demo => demo::run().map(|()| ExitCode::SUCCESS),
        Chore::Bench { chore } => bench::run(chore).map(|()| ExitCode::SUCCESS),
        Chore::KvmHost { chore } => kvm_host::run(chore),
        Chore::Soak(options) => soak::run(&options).map(|()| ExitCode::SUCCESS),
    }
}
