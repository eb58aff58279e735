//! `mimeo setup runtime`: a guest that has booted, for machines to be copied from.

use mimeo_engine::{Engine, MachineSpec, boot_snapshot};
use serde_json::json;

use super::steps::Steps;
use crate::commands::run::settings::memory;
use crate::error::CliError;
use crate::output;

/// The shape of the machines.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Processors
    #[arg(long, default_value_t = 1, value_name = "N")]
    cpus: u32,
    /// Memory, such as 512m or 2g
    #[arg(short, long, default_value = "512m", value_name = "SIZE")]
    memory: String,
}

/// Boots the guest and keeps it, unless there is one.
pub(super) async fn run(engine: &Engine, args: &Args, as_json: bool) -> Result<(), CliError> {
    let spec =
        MachineSpec { cpus: args.cpus, memory_mib: memory(&args.memory)?, ..MachineSpec::new(String::new()) };
    let id = prepare_snapshot(engine, &spec).await?;
    if as_json { output::json(&json!({ "snapshot": id })) } else { output::line(id) }
}

/// For machines that are asked for without a size. A host where none can run
/// is told so by what looks for its means.
pub(super) async fn prepare(engine: &Engine) {
    if let Err(error) = prepare_snapshot(engine, &MachineSpec::new(String::new())).await {
        tracing::warn!(component = "setup", %error, "machines will boot one by one");
    }
}

async fn prepare_snapshot(engine: &Engine, spec: &MachineSpec) -> Result<String, CliError> {
    let mut steps = Steps::new();
    steps.begin("booting a guest for machines to be copied from");
    let snapshot = boot_snapshot::prepare(engine, spec).await?;
    Ok(snapshot.manifest.id.short().to_owned())
}
