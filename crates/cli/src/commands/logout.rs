//! `mimeo logout`: removes the stored login of a registry.

use std::path::PathBuf;

use mimeo_image::AuthFile;

use super::login::registry_of;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo logout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo logout quay.io")]
pub(crate) struct Args {
    /// Remove the logins of all registries
    #[arg(short, long, conflicts_with = "registry")]
    all: bool,
    /// The login file, instead of podman's
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry, HOST[:PORT]
    #[arg(required_unless_present = "all", value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Removes the login.
pub(crate) fn run(args: &Args) -> Result<i32, CliError> {
    let file = AuthFile::locate(args.authfile.as_deref());
    match &args.registry {
        Some(text) => {
            let registry = registry_of(text);
            file.remove(registry)?;
            output::line(format!("Removed login credentials for {registry}"))?;
        }
        None => {
            file.clear()?;
            output::line("Removed login credentials for all registries")?;
        }
    }
    Ok(0)
}
