//! `mimeo create`: creates a machine without starting it.

use mimeo_engine::{Engine, create};

use crate::commands::run::MachineArgs;
use crate::error::CliError;
use crate::{output, progress};

/// Arguments of `mimeo create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo create --name web -p 8080:80 nginx\n  mimeo start web")]
pub(crate) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
}

/// Creates the machine and prints its id.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let progress = progress::reporter(args.machine.quiet());
    let spec = args.machine.into_spec()?;
    let record = create::create(engine, spec, progress).await?;
    output::line(record.id.as_str())?;
    Ok(0)
}
