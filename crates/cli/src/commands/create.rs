//! `mimeo create`: creates a machine without starting it.

use mimeo_engine::create::StartOptions;
use mimeo_engine::{Engine, create};

use crate::commands::run::MachineArgs;
use crate::error::CliError;
use crate::interruption::Interruption;
use crate::{output, progress};

/// Arguments of `mimeo create`.
#[derive(Debug, clap::Args)]
#[command(
    // -h is podman's short form of --hostname.
    disable_help_flag = true,
    override_usage = "mimeo create [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "Examples:\n  mimeo create --name web -p 8080:80 nginx\n  mimeo start web"
)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: MachineArgs,
}

/// Creates the machine and prints its id.
pub(crate) async fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    let options = StartOptions::new(progress::reporter(args.machine.quiet()));
    let (spec, files) = args.machine.into_spec(engine)?;
    files.prepare(engine, spec.name.as_ref()).await?;
    // From here on: a signal that came during the first step would leave the machine behind.
    let mut interruption = Interruption::listen();
    let created = tokio::select! {
        created = create::create(engine, spec, &options) => created,
        // Dropping the creation undoes it.
        signal = interruption.received() => {
            files.give_up();
            return Ok(128 + signal);
        }
    };
    let record = created.inspect_err(|_| files.give_up())?;
    files.write(record.id.as_str(), None)?;
    output::line(record.id.as_str())?;
    Ok(0)
}
