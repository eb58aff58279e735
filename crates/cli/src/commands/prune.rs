//! `mimeo container prune`: removes machines that do not run.

use mimeo_engine::machine::Found;

use crate::backend::Host;
use crate::commands::confirm::confirm;
use crate::commands::filter::Filters;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo container prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo container prune --force --filter until=24h")]
pub(crate) struct Args {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
    /// Only machines that match, as for `mimeo ps`; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes the machines and prints their ids.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    if !args.force && !confirm("This command removes all machines that do not run.\n")? {
        return Ok(0);
    }
    let (removed, code) = prune_machines(host, &args.filter).await?;
    removed.iter().try_for_each(output::line)?;
    Ok(code)
}

/// Removes all machines that do not run and match; returns their ids, and the exit code. An error is printed and does not
/// stop the others.
pub(crate) async fn prune_machines(host: &Host, filters: &[String]) -> Result<(Vec<String>, i32), CliError> {
    let filters = Filters::parse(filters, host).await?;
    let is_pruned = |found: &Found| !found.record.phase().is_live() && filters.accept(&found.record);
    let (mut removed, mut code) = (Vec::new(), 0);
    for found in host.machines().await?.into_iter().filter(is_pruned) {
        match host.remove(&found, false, None).await {
            Ok(()) => removed.push(found.record.id.to_string()),
            Err(error) => {
                code = error.exit_code();
                output::error(&error);
            }
        }
    }
    Ok((removed, code))
}
