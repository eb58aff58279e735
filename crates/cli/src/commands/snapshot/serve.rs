//! `mimeo snapshot serve`: a process that starts copies of one snapshot.

use mimeo_engine::Engine;
use mimeo_engine::serve::{self, ServeRecord};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It says its id, process and socket when it can be asked. Its end is the end of its copies.\n\nExamples:\n  mimeo snapshot serve warm --pool 4\n  mimeo snapshot run --pid 4711 --name one"
)]
pub(crate) struct Args {
    /// The snapshot: its tag, its id, or the beginning of its id
    snapshot: String,
    /// Keep this many copies ready before somebody wants them
    #[arg(long, default_value_t = 0, value_name = "N")]
    pool: usize,
    /// Give copies their memory page by page, with those first that copies before have needed, instead of having them map
    /// the file; for drivers that take it so (firecracker)
    #[arg(long)]
    pager: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Serves until a signal asks for the end.
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
        // Who started it may not want to read.
        printed.ok();
    };
    serve::serve(engine, &snapshot, args.pool, args.pager, started).await?;
    Ok(0)
}
