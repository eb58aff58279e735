//! `mimeo context use`: uses a context for the commands that follow.

use crate::backend::contexts::Contexts;
use crate::backend::target::LOCAL_CONTEXT;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo context use`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The context; local is this host
    name: String,
}

/// Stores the choice and prints the context's name.
pub(crate) fn run(args: Args) -> Result<i32, CliError> {
    let mut contexts = Contexts::load()?;
    if args.name != LOCAL_CONTEXT {
        contexts.get(&args.name)?;
    }
    contexts.current = (args.name != LOCAL_CONTEXT).then(|| args.name.clone());
    contexts.store()?;
    output::line(&args.name)?;
    Ok(0)
}
