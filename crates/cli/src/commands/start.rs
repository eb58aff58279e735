//! `mimeo start`: starts machines that exist and do not run.

use mimeo_engine::Found;

use crate::backend::{FindFailure, Host};
use crate::commands::attach::{AttachOptions, attach};
use crate::commands::select::{Machines, for_each};
use crate::detach_keys;
use crate::error::CliError;
use crate::stdio::OutputStreams;

/// Arguments of `mimeo start`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo start web\n  mimeo start --attach --interactive shell\n  mimeo start --all --filter restart-policy=always"
)]
pub(crate) struct Args {
    /// Attach to the container's output, and exit with its exit code
    #[arg(short, long)]
    attach: bool,
    /// With --attach: pass standard input to the container, if it was created with --interactive
    #[arg(short, long)]
    interactive: bool,
    /// With --attach: keys that detach the terminal from the machine, which runs on; empty for none
    #[arg(long, value_name = "KEYS", default_value = detach_keys::DEFAULT)]
    detach_keys: String,
    /// With --attach: forward signals to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    /// All machines that do not run
    #[arg(long, conflicts_with_all = ["names", "pid", "attach"])]
    all: bool,
    /// Only machines that match; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["names", "pid", "attach"])]
    filter: Vec<String>,
    #[command(flatten)]
    machines: Machines,
}

/// Starts each machine.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    if args.attach || args.interactive {
        return start_attached(host, args).await;
    }
    let machines = args
        .machines
        .find_matching(host, args.all, &args.filter, |found| !found.record.phase().is_live())
        .await?;
    let start = |host: Host, found: Result<Found, FindFailure>| async move {
        host.start(&found?).await?;
        Ok(None)
    };
    Ok(for_each(host, machines, start).await)
}

/// Starts one machine and attaches to it. One that runs already is only attached to.
async fn start_attached(host: &Host, args: Args) -> Result<i32, CliError> {
    let detach_keys = args.detach_keys.parse()?;
    let mut machines = args.machines.find(host).await?;
    let (Some((_, found)), true) = (machines.pop(), machines.is_empty()) else {
        return Err(CliError::usage(
            "cannot attach to more than one machine: start the others without --attach",
        ));
    };
    let found = found?;
    let options = AttachOptions {
        stdin: args.interactive,
        detach_keys,
        keep_signals: !args.sig_proxy,
        output: OutputStreams::default(),
        start: true,
    };
    attach(host, &found, options).await
}
