//! `mimeo volume exists`: tests whether a named volume exists.

use mimeo_engine::Engine;
use mimeo_engine::volumes::VolumeName;

use crate::error::CliError;

/// Arguments of `mimeo volume exists`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    name: String,
}

/// Returns 0 if the volume exists, and 1 otherwise, also for what cannot be a name.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let Ok(name) = args.name.parse::<VolumeName>() else { return Ok(1) };
    Ok(i32::from(engine.volumes().read(&name)?.is_none()))
}
