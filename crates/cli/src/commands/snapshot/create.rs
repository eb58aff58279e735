//! `mimeo snapshot create`: takes a snapshot of a running machine.

use mimeo_engine::machine::MachineName;
use serde_json::json;

use crate::backend::Host;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot create`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo snapshot create web --tag warm\n  mimeo snapshot create --pid $! --json"
)]
pub(crate) struct Args {
    /// Tag of the snapshot; without it, the snapshot has only its id
    #[arg(short, long)]
    tag: Option<MachineName>,
    /// Print JSON, including how long the machine was paused
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Takes the snapshot and prints its id.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let machine = args.machine.find(host).await?;
    let saved = host.take_snapshot(&machine, args.tag.clone()).await?;
    if args.json {
        output::json(&json!({
            "id": saved.snapshot,
            "tag": args.tag,
            "pause_ms": saved.pause_micros as f64 / 1000.0,
            "memory_bytes": saved.memory_bytes,
        }))?;
    } else {
        output::line(saved.snapshot.as_str())?;
    }
    Ok(0)
}
