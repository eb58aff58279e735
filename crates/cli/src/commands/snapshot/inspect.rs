//! `mimeo snapshot inspect`: shows details of snapshots.

use crate::backend::Host;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo snapshot inspect warm")]
pub(crate) struct Args {
    /// The snapshots: tags, ids or starts of ids
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

/// Prints the snapshots' manifests as a JSON array.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let mut found = Vec::new();
    for word in &args.snapshots {
        found.push(host.find_snapshot(word).await?);
    }
    output::json(&found)?;
    Ok(0)
}
