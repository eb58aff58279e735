//! `mimeo fork`: clones a running machine; either every clone starts or none.

use std::net::Ipv4Addr;

use mimeo_engine::act::ForkRequest;
use mimeo_engine::launch_request::{CloneInfo, CloneOverrides};
use mimeo_engine::machine::MachineName;
use mimeo_net::PortMapping;
use serde::Serialize;
use serde_json::{Value, json};

use crate::backend::{CloneOutcome, ForkOutcome, Host};
use crate::commands::select::Machine;
use crate::commands::snapshot::run::CloneOptions;
use crate::error::CliError;
use crate::values::environment;
use crate::{output, values};

/// Arguments of `mimeo fork`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo fork web\n  mimeo fork web -n 10 --name try\n  mimeo fork agent -n 3 --key step-7 --json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    options: CloneOptions,
    /// Idempotency key: repeating the command with the same key returns the same clones
    #[arg(long)]
    key: Option<String>,
    /// Print JSON, including how long the machine was paused
    #[arg(long)]
    json: bool,
}

/// A clone in `--json`.
#[derive(Debug, Serialize)]
struct CloneRow<'a> {
    id: &'a str,
    name: &'a MachineName,
    /// The supervisor's process.
    pid: u32,
    /// The UUID that tells the clone from all others.
    vm_generation: &'a str,
    ip: Option<Ipv4Addr>,
    ports: &'a [PortMapping],
    /// Milliseconds of each stage of the start, in order.
    stages: &'a [(String, u64)],
}

impl<'a> From<&'a CloneInfo> for CloneRow<'a> {
    fn from(info: &'a CloneInfo) -> Self {
        Self {
            id: &info.id,
            name: &info.name,
            pid: info.pid,
            vm_generation: &info.vm_generation,
            ip: info.ip,
            ports: &info.ports,
            stages: &info.stages,
        }
    }
}

/// Forks the machine and prints the clones' names.
pub(crate) async fn run(host: &Host, args: Args) -> Result<i32, CliError> {
    let machine = args.machine.find(host).await?;
    let order = ForkRequest { overrides: clone_overrides(&args.options)?, key: args.key };
    let forked = host.fork(&machine, order).await?;
    print_outcomes(&forked.clones, Some(&forked), args.json)
}

/// One set of overrides for each clone.
pub(crate) fn clone_overrides(options: &CloneOptions) -> Result<Vec<CloneOverrides>, CliError> {
    let ports = values::ports(&options.publish)?;
    let fixed = ports.iter().any(|port| port.host_port.is_some());
    if fixed && options.count > 1 {
        return Err(CliError::usage("several clones cannot have the same host port: leave it out"));
    }
    let env = environment(&options.env_file, &options.env)?;
    (1..=options.count)
        .map(|number| {
            Ok(CloneOverrides {
                name: clone_name(options, number)?,
                ports: (!options.publish.is_empty()).then(|| ports.clone()),
                env: env.clone(),
                remove: options.rm,
                ..CloneOverrides::default()
            })
        })
        .collect()
}

fn clone_name(options: &CloneOptions, number: u32) -> Result<Option<MachineName>, CliError> {
    match &options.name {
        Some(name) if options.count > 1 => Ok(Some(format!("{name}-{number}").parse()?)),
        name => Ok(name.clone()),
    }
}

/// Prints each clone's name or error; the exit code is 125 if any failed.
pub(crate) fn print_outcomes(
    cloned: &[CloneOutcome],
    fork: Option<&ForkOutcome>,
    as_json: bool,
) -> Result<i32, CliError> {
    let failed = cloned.iter().any(|cloned| cloned.outcome.is_err());
    if as_json {
        output::json(&to_json(cloned, fork))?;
    } else {
        for cloned in cloned {
            match &cloned.outcome {
                Ok(info) => output::line(info.name.as_str())?,
                Err(error) => output::error(&CliError::usage(error.clone())),
            }
        }
    }
    Ok(if failed { 125 } else { 0 })
}

fn to_json(cloned: &[CloneOutcome], fork: Option<&ForkOutcome>) -> Value {
    let clones: Vec<_> = cloned
        .iter()
        .map(|cloned| match &cloned.outcome {
            Ok(info) => json!(CloneRow::from(info)),
            Err(error) => json!({ "requested": cloned.requested, "error": error }),
        })
        .collect();
    match fork {
        Some(fork) => json!({
            "snapshot": fork.snapshot,
            "pause_ms": fork.pause_micros as f64 / 1000.0,
            "repeated": fork.repeated,
            "clones": clones,
        }),
        None => json!(clones),
    }
}
