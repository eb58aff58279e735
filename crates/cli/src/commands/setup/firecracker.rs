//! `mimeo setup firecracker`: installs Firecracker for machines on hosts with KVM.

use std::path::PathBuf;

use mimeo_engine::Engine;
use mimeo_setup::firecracker::{Installed, install};
use serde_json::json;

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo setup firecracker`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  mimeo setup firecracker ./release-v1.12.1-x86_64/firecracker-v1.12.1-x86_64"
)]
pub(super) struct Args {
    /// The firecracker program from a release archive of the Firecracker project
    #[arg(value_name = "FILE")]
    firecracker: PathBuf,
    /// The jailer program; by default the `jailer` in the same directory
    #[arg(long, value_name = "FILE")]
    jailer: Option<PathBuf>,
}

/// Copies both programs into MIMEO_HOME and prints the version.
pub(super) fn run(engine: &Engine, args: &Args, as_json: bool) -> Result<(), CliError> {
    let Installed { program, version, jailer } =
        install(&engine.home().programs(), &args.firecracker, args.jailer.as_deref())?;
    if as_json {
        let version = version.to_string();
        return output::json(&json!({ "program": program, "version": version, "jailer": jailer }));
    }
    output::line(format!("firecracker {version} is set up"))?;
    if !jailer {
        tracing::warn!(component = "setup", "no jailer was installed: machines started by root need it");
    }
    Ok(())
}
