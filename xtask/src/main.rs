//! Chores: `cargo xtask demo`, `cargo xtask bench run`, `cargo xtask kvm-host run`, `cargo xtask openapi`, `cargo xtask soak`, `cargo xtask words`.

#![allow(clippy::print_stdout, reason = "chores print to the terminal")]

mod bench;
mod demo;
mod kvm_host;
mod narrate;
mod openapi;
mod soak;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks for mimeo.
#[derive(Debug, Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Show what mimeo does: run and fork a real nginx in a microVM
    Demo,
    /// Run the benchmarks
    Bench {
        #[command(subcommand)]
        chore: bench::Chore,
    },
    /// Emulate a host with KVM and run mimeo on it
    KvmHost {
        #[command(subcommand)]
        chore: kvm_host::Chore,
    },
    /// Start, clone, fork and kill machines under load, and keep evidence of guests that do not respond
    Soak(soak::Options),
    /// Write the document of the manager's API, docs/reference/openapi.json
    Openapi,
    /// Check for retired names and for commit subjects over 72 characters
    Words,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Demo => demo::run().map(|()| ExitCode::SUCCESS),
        Chore::Bench { chore } => bench::run(chore).map(|()| ExitCode::SUCCESS),
        Chore::KvmHost { chore } => kvm_host::run(chore),
        Chore::Soak(options) => soak::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Openapi => openapi::run().map(|()| ExitCode::SUCCESS),
        Chore::Words => words::run(),
    }
}
