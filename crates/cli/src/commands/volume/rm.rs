//! `mimeo volume rm`: removes named volumes.

use mimeo_engine::volumes::VolumeError;
use mimeo_engine::{Engine, act};

use crate::error::CliError;
use crate::output;

/// podman's exit code if there is no such volume.
const NO_SUCH: i32 = 1;
/// podman's exit code if a machine refers to the volume.
const IN_USE: i32 = 2;

/// Arguments of `mimeo volume rm`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo volume rm data\n  mimeo volume rm --force data\n  mimeo volume rm --all"
)]
pub(crate) struct Args {
    /// Remove the machines that refer to a volume first, running or not; do not fail for volumes that do not exist
    #[arg(short, long)]
    force: bool,
    /// With --force: seconds that a machine's container has to exit before it is killed
    #[arg(short = 't', long, value_name = "SECONDS", requires = "force")]
    time: Option<u32>,
    /// All volumes
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Names of volumes, or beginnings of names
    #[arg(required_unless_present = "all", value_name = "VOLUME")]
    names: Vec<String>,
}

/// Removes each volume. An error is printed and does not stop the others.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let names = match args.all {
        true => engine.volumes().list()?.iter().map(|volume| volume.name.to_string()).collect(),
        false => args.names.clone(),
    };
    let mut code = 0;
    for name in names {
        match remove(engine, &name, args).await {
            Ok(true) => output::line(&name)?,
            Ok(false) => {}
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    Ok(code)
}

/// Removes one volume; whether there was one.
async fn remove(engine: &Engine, query: &str, args: &Args) -> Result<bool, CliError> {
    let volume = match engine.volumes().find(query) {
        Err(VolumeError::NotFound { .. }) if args.force => return Ok(false),
        Err(error @ VolumeError::NotFound { .. }) => return Err(CliError::from(error).with_code(NO_SUCH)),
        found => found?,
    };
    match act::remove_volume(engine, &volume.name, args.force, args.time).await {
        Err(error @ act::ActError::Volume(VolumeError::InUse { .. })) => {
            Err(CliError::from(error).with_code(IN_USE))
        }
        removed => Ok(removed.map(|()| true)?),
    }
}
