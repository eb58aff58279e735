//! `mimeo snapshot rm`: removes snapshots. Machines that were started from them keep running.

use mimeo_engine::{Engine, garbage, snapshot};

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
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let mut code = 0;
    for word in &args.snapshots {
        if let Err(error) = remove(engine, word).and_then(|()| output::line(word)) {
            output::error(&error);
            code = error.exit_code();
        }
    }
    Ok(code)
}

fn remove(engine: &Engine, word: &str) -> Result<(), CliError> {
    let store = engine.snapshots();
    match store.find(word) {
        Ok(found) => garbage::remove(engine, &found)?,
        // A damaged snapshot cannot be read, but it can be removed.
        Err(error) => match snapshot::remove_damaged(&store, word)? {
            true => return Ok(()),
            false => return Err(error.into()),
        },
    };
    Ok(())
}
