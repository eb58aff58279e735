//! `mimeo setup runtime`: makes the boot snapshot that `run` restores machines from.

use mimeo_engine::{Engine, MachineSpec, boot_snapshot};
use serde_json::json;

use super::steps::Steps;
use crate::commands::run::settings::memory;
use crate::error::CliError;
use crate::output;

/// The shape of the machines that the boot snapshot is for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of vCPUs
    #[arg(long, default_value_t = 1, value_name = "N")]
    cpus: u32,
    /// Memory: a number of bytes, or a number with k, m or g
    #[arg(short, long, default_value = "512m", value_name = "SIZE")]
    memory: String,
}

/// Makes the boot snapshot unless it exists, and prints its id.
pub(super) async fn run(engine: &Engine, args: &Args, as_json: bool) -> Result<(), CliError> {
    let spec =
        MachineSpec { cpus: args.cpus, memory_mib: memory(&args.memory)?, ..MachineSpec::new(String::new()) };
    let id = prepare_snapshot(engine, &spec).await?;
    if as_json { output::json(&json!({ "snapshot": id })) } else { output::line(id) }
}

/// Makes the boot snapshot for machines of the default shape. A failure is only
/// a warning: preflight reports what the host lacks.
pub(super) async fn prepare(engine: &Engine) {
    if let Err(error) = prepare_snapshot(engine, &MachineSpec::new(String::new())).await {
        tracing::warn!(component = "setup", %error, "cannot make the boot snapshot: each machine will boot");
    }
}

async fn prepare_snapshot(engine: &Engine, spec: &MachineSpec) -> Result<String, CliError> {
    let mut steps = Steps::new();
    steps.begin("making the boot snapshot");
    let snapshot = boot_snapshot::prepare(engine, spec).await?;
    Ok(snapshot.manifest.id.short().to_owned())
}
