//! `mimeo healthcheck run`: runs a machine's health check once.

use mimeo_engine::ControlClient;
use mimeo_engine::machine::Phase;

use super::select::Machine;
use crate::backend::{Host, local};
use crate::error::CliError;
use crate::output;

/// Commands for health checks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Run a machine's health check once: the exit code is 0 if it succeeds, and 1 if it fails
    Run(Args),
}

/// Arguments of `mimeo healthcheck run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: Machine,
}

/// Runs the check and prints `unhealthy` if it fails. It counts as one of the machine's own checks.
pub(crate) async fn run(host: &Host, verb: Verb) -> Result<i32, CliError> {
    let engine = local(host, "run a health check")?;
    let Verb::Run(args) = verb;
    let found = args.machine.find(host).await?;
    let name = &found.record.name;
    if found.record.phase() != Phase::Running {
        return Err(CliError::usage(format!("machine {name} is not running")));
    }
    let client = ControlClient::connect(engine.home(), &found).await?;
    let failure = client.check_health().await?;
    if failure.is_some() {
        output::line("unhealthy")?;
    }
    Ok(i32::from(failure.is_some()))
}
