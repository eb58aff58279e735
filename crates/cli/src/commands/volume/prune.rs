//! `mimeo volume prune`: removes named volumes that no machine refers to.

use mimeo_engine::volumes::Volume;
use mimeo_engine::{Engine, act};

use super::VolumeUsers;
use super::filter::Filters;
use crate::commands::confirm::confirm;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo volume prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo volume prune --force --filter until=24h")]
pub(crate) struct Args {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
    /// Only volumes that match, as for `mimeo volume ls`; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes the volumes and prints their names.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let volumes = unused(engine, &args.filter)?;
    if !args.force && !confirm(&warning(&volumes))? {
        return Ok(0);
    }
    let (removed, code) = remove_all(engine, volumes).await;
    removed.iter().try_for_each(output::line)?;
    Ok(code)
}

/// podman's text.
fn warning(volumes: &[Volume]) -> String {
    let names: Vec<_> = volumes.iter().map(|volume| format!("\n{}", volume.name)).collect();
    format!(
        "This will remove all volumes not used by at least one container. The following volumes will be removed:{}",
        names.concat()
    )
}

/// The volumes that no machine refers to and that match.
pub(crate) fn unused(engine: &Engine, filters: &[String]) -> Result<Vec<Volume>, CliError> {
    let filters = Filters::parse(filters)?;
    let users = VolumeUsers::load(engine)?;
    let mut volumes = engine.volumes().list()?;
    volumes.retain(|volume| users.count(&volume.name) == 0 && filters.accept(volume, 0));
    Ok(volumes)
}

/// Removes the volumes; returns their names, and the exit code. An error is printed and does not stop the others: a
/// machine may have begun to use one meanwhile.
pub(crate) async fn remove_all(engine: &Engine, volumes: Vec<Volume>) -> (Vec<String>, i32) {
    let (mut removed, mut code) = (Vec::new(), 0);
    for volume in volumes {
        match act::remove_volume(engine, &volume.name, false, None).await {
            Ok(()) => removed.push(volume.name.to_string()),
            Err(error) => {
                let error = CliError::from(error);
                code = error.exit_code();
                output::error(&error);
            }
        }
    }
    (removed, code)
}
