//! `mimeo context rm`: removes contexts.

use crate::backend::contexts::Contexts;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo context rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The contexts
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Removes the contexts and prints their names. If one of them is in use, this host is used from then on.
pub(crate) fn run(args: Args) -> Result<i32, CliError> {
    let mut contexts = Contexts::load()?;
    for name in &args.names {
        contexts.get(name)?;
        contexts.contexts.remove(name);
        contexts.current = contexts.current.filter(|current| current != name);
    }
    contexts.store()?;
    args.names.iter().try_for_each(output::line)?;
    Ok(0)
}
