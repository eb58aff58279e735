//! `mimeo snapshot rm`: removes snapshots. Machines that were started from them keep running.

use crate::backend::Host;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo snapshot rm warm\n  mimeo snapshot rm $(mimeo snapshot ls -q)")]
pub(crate) struct Args {
    /// The snapshots: tags, ids or starts of ids
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

/// Removes each snapshot, and prints the name that was given. An error is printed and does not stop the others.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let mut code = 0;
    for word in &args.snapshots {
        if let Err(error) = host.remove_snapshot(word).await.and_then(|()| output::line(word)) {
            output::error(&error);
            code = error.exit_code();
        }
    }
    Ok(code)
}
