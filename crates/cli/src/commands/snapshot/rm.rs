//! `mimeo snapshot rm`: snapshots go. Machines that were started from them stay.

use mimeo_engine::{Engine, garbage, snapshot};

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo snapshot rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo snapshot rm warm\n  mimeo snapshot rm $(mimeo snapshot ls -q)")]
pub(crate) struct Args {
    /// The snapshots: their tags, their ids, or the beginnings of their ids
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

/// Removes each, and prints how it was named. An error is told and the others go on.
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
        // What cannot be used can still be removed.
        Err(error) => match snapshot::remove_damaged(&engine.snapshots(), word)? {
            true => return Ok(()),
            false => return Err(error.into()),
        },
    };
    Ok(())
}
