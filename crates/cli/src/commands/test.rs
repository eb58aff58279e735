//! `mimeo test`: tests whether machines work on this host.

mod busybox;
mod sanity;

use mimeo_engine::Engine;

use crate::error::CliError;

/// The tests.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Test one machine: image, start, health check, network, exec and cleanup
    Sanity(sanity::Args),
}

/// Runs the test.
pub(crate) async fn run(engine: &Engine, verb: Verb) -> Result<i32, CliError> {
    match verb {
        Verb::Sanity(args) => sanity::run(engine, &args).await,
    }
}
