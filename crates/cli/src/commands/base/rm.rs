//! `mimeo base rm`: removes bases.

use mimeo_base::{BaseName, RemoveError, Store, StoreError};
use mimeo_engine::Engine;
use mimeo_engine::machine::SystemSpec;

use crate::error::CliError;
use crate::output;

/// podman's exit codes if there is no such thing, and if a machine uses it.
const NO_SUCH: i32 = 1;
const IN_USE: i32 = 2;

/// Arguments of `mimeo base rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo base rm debian")]
pub(crate) struct Args {
    /// Names of bases
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Removes each base and prints its name. An error is printed and does not stop the others.
pub(crate) fn run(engine: &Engine, store: &Store, args: &Args) -> Result<i32, CliError> {
    let mut code = 0;
    for name in &args.names {
        match remove(engine, store, name) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    Ok(code)
}

fn remove(engine: &Engine, store: &Store, name: &str) -> Result<(), CliError> {
    let name: BaseName = name.parse()?;
    let lock = store.lock()?;
    match store.remove(lock, &name, &users(engine, &name)?) {
        Err(error @ RemoveError::Store(StoreError::NotFound { .. })) => {
            Err(CliError::from(error).with_code(NO_SUCH))
        }
        Err(error @ RemoveError::InUse { .. }) => Err(CliError::from(error).with_code(IN_USE)),
        removed => Ok(removed?),
    }
}

/// The machines that were made from the base, by name.
fn users(engine: &Engine, base: &BaseName) -> Result<Vec<String>, CliError> {
    let all = engine.registry().list()?.into_iter().map(|found| found.record);
    let is_user = |system: &SystemSpec| system.base == base.as_str();
    let users = all.filter(|record| record.spec.system.as_ref().is_some_and(is_user));
    Ok(users.map(|record| record.name.to_string()).collect())
}
