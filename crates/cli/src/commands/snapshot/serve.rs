//! `mimeo snapshot serve`: a server that starts clones of one snapshot.

use mimeo_engine::Engine;
use mimeo_engine::snapshot_server::{self, ServeOptions, ServeRecord};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The server prints its id, process id and socket once it accepts requests. When it ends, its clones end, too, unless --release is given.\n\nExamples:\n  mimeo snapshot serve warm --pool 4\n  mimeo snapshot run --pid 4711 --name one"
)]
pub(crate) struct Args {
    /// The snapshot: its tag, its id or the start of its id
    snapshot: String,
    /// Number of clones to keep ready in advance
    #[arg(long, default_value_t = 0, value_name = "N")]
    pool: usize,
    /// Load clones' memory through a page server instead of mapping the file: page by page, starting with
    /// the pages that earlier clones needed; only for drivers that support it (firecracker)
    #[arg(long)]
    pager: bool,
    /// Let clones run on when the server ends; those that wait in its pool end with it
    #[arg(long, conflicts_with = "pager")]
    release: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Serves until a termination signal.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let snapshot = engine.snapshots().find(&args.snapshot)?;
    let json = args.json;
    let started = |record: &ServeRecord| {
        let printed = if json {
            output::json(record)
        } else {
            output::line(format!(
                "serve {}\npid {}\nsocket {}",
                record.id,
                record.process.pid,
                record.socket.display()
            ))
        };
        // The server runs even if its standard output is closed.
        printed.ok();
    };
    let options = ServeOptions { pool: args.pool, pager: args.pager, releases_clones: args.release };
    snapshot_server::serve(engine, &snapshot, options, started).await?;
    Ok(0)
}
