//! `mimeo create`: creates a machine without starting it.

use crate::backend::{Creation, Host};
use crate::commands::run::MachineArgs;
use crate::error::CliError;
use crate::output;

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
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let quiet = args.machine.quiet();
    let (spec, files) = args.machine.into_spec(host).await?;
    files.prepare(host, spec.name.as_ref()).await?;
    let created = host.create(spec, quiet).await;
    let id = match created.inspect_err(|_| files.give_up())? {
        Creation::Created(id) => id,
        Creation::Interrupted(signal) => {
            files.give_up();
            return Ok(128 + signal);
        }
    };
    files.write(id.as_str(), None)?;
    output::line(id.as_str())?;
    Ok(0)
}
