//! `mimeo update`: changes a machine's labels, restart policy and size.

use std::collections::BTreeMap;

use mimeo_engine::machine::Changes;

use crate::backend::Host;
use crate::commands::run::container;
use crate::commands::run::settings::{key_value, memory};
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo update`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo update --restart always web\n  mimeo update --label env=test --unset-label old web\n  mimeo update --memory 1g --cpus 2 stopped-machine"
)]
pub(crate) struct Args {
    /// When to start the machine again after it has exited: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Set a label; can be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Remove a label; can be repeated
    #[arg(long, value_name = "KEY")]
    unset_label: Vec<String>,
    /// Number of CPUs, such as 2 or 0.5, for a machine that does not run
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpus: Option<String>,
    /// Memory, for a machine that does not run: a number of bytes, or a number with k, m or g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "name")]
    pid: Option<u32>,
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE", required_unless_present = "pid")]
    name: Option<String>,
}

/// Changes the machine and prints its id.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let changes = changes(&args)?;
    if changes == Changes::default() {
        return Err(CliError::usage("nothing to change: see `mimeo update --help`"));
    }
    let machine = Machine { name: args.name.clone(), pid: args.pid, latest: false };
    let found = machine.find(host).await?;
    host.edit(&found, &changes).await?;
    output::line(found.record.id.as_str())?;
    Ok(0)
}

fn changes(args: &Args) -> Result<Changes, CliError> {
    let set = args.label.iter().map(|text| key_value(text)).map(|(key, value)| (key, Some(value)));
    let unset = args.unset_label.iter().map(|key| (key.clone(), None));
    let labels: BTreeMap<_, _> = set.chain(unset).collect();
    let cpus = args.cpus.as_deref().map(container::cpus).transpose()?;
    Ok(Changes {
        name: None,
        labels,
        restart: args.restart.as_deref().map(str::parse).transpose()?,
        cpus: cpus.map(|cpus| cpus.vcpus),
        nano_cpus: cpus.and_then(|cpus| cpus.quota_nanos),
        memory_mib: args.memory.as_deref().map(memory).transpose()?,
    })
}
