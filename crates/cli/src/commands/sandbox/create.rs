//! `mimeo sandbox create`: starts a new sandbox from a base.

use std::path::{Path, PathBuf};

use mimeo_engine::machine::{MachineName, NetworkMode, SystemSpec};
use mimeo_engine::{MachineSpec, Selector};
use mimeo_net::PortMapping;

use super::ready;
use crate::backend::Host;
use crate::commands::attach::AttachOptions;
use crate::commands::run::{FileOptions, RunRequest, network};
use crate::error::CliError;
use crate::logging::LogLevel;
use crate::{detach_keys, values};

/// The label that names the agent that a sandbox is for.
const AGENT_LABEL: &str = "mimeo.agent";
/// What a file of keys or user-data may have at most, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Arguments of `mimeo sandbox create`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo sandbox create debian --name dev\n  mimeo exec dev systemctl status\n  mimeo sandbox create debian --ssh-key ~/.ssh/id_ed25519.pub -p 2222:22"
)]
pub(crate) struct Args {
    /// The base
    base: String,
    /// The sandbox's name, host name and instance id; random by default
    #[arg(long)]
    name: Option<String>,
    /// The agent that the sandbox is for, as a label of the machine
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// Number of vCPUs
    #[arg(long, default_value_t = 2, value_name = "N")]
    cpus: u32,
    /// Memory: a number of bytes, or a number with k, m or g
    #[arg(short, long, default_value = "1g", value_name = "SIZE")]
    memory: String,
    /// Size of the disk, if it is to be larger than the base's; it takes only the space that is written
    #[arg(long, default_value = "10g", value_name = "SIZE")]
    disk: String,
    /// Network mode: auto, rootless, bridged or none
    #[arg(long, default_value = "auto", value_parser = network::mode, value_name = "MODE")]
    network: NetworkMode,
    /// Publish a port of the sandbox on the host; can be repeated
    #[arg(short, long, value_name = "[IP:][HOST:]GUEST[/udp]")]
    publish: Vec<String>,
    /// A public SSH key for the system's default user: a file, or the key itself; can be repeated
    #[arg(long, value_name = "KEY")]
    ssh_key: Vec<String>,
    /// A file with user-data for cloud-init
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Do not wait until the system has started
    #[arg(long)]
    no_wait: bool,
}

/// Starts the sandbox, prints its id, and waits until the system has started.
pub(crate) async fn run(host: &Host, args: Args, level: LogLevel) -> Result<i32, CliError> {
    let no_wait = args.no_wait;
    let spec = spec(args)?;
    let name = spec.name.clone().unwrap_or_else(MachineName::random);
    let spec = MachineSpec { name: Some(name.clone()), ..spec };
    let options = AttachOptions {
        stdin: false,
        detach_keys: detach_keys::DEFAULT.parse()?,
        keep_signals: false,
        output: Default::default(),
        start: false,
    };
    let files = FileOptions::default();
    let request = RunRequest { spec, files, quiet: true, detach: true, options, level };
    let code = host.clone().run(request).await?;
    if code != 0 {
        return Ok(code);
    }
    if !no_wait {
        let found = host.find(&Selector::NameOrId(name.to_string())).await?;
        ready::wait(host, &found).await?;
    }
    Ok(0)
}

fn spec(args: Args) -> Result<MachineSpec, CliError> {
    let usage = |error: String| CliError::usage(error);
    let system = SystemSpec {
        base: args.base.clone(),
        ssh_keys: args.ssh_key.iter().map(|key| ssh_key(key)).collect::<Result<_, _>>()?,
        user_data: args.user_data.as_deref().map(read_text).transpose()?,
    };
    let ports = args.publish.iter().map(|text| PortMapping::parse(text)).collect::<Result<Vec<_>, _>>();
    let ports = ports.map_err(|error| usage(format!("--publish: {error}")))?;
    let memory = values::size(&args.memory).map_err(|error| usage(format!("--memory: {error}")))?;
    Ok(MachineSpec {
        name: args.name.map(|name| name.parse()).transpose()?,
        labels: args.agent_id.map(|id| (AGENT_LABEL.to_owned(), id)).into_iter().collect(),
        cpus: args.cpus,
        memory_mib: u32::try_from(memory >> 20).unwrap_or(u32::MAX),
        disk_bytes: values::size(&args.disk).map_err(|error| usage(format!("--disk: {error}")))?,
        network: args.network,
        ports: ports.concat(),
        system: Some(system),
        ..MachineSpec::new(args.base)
    })
}

/// A key itself, or the content of the file.
fn ssh_key(text: &str) -> Result<String, CliError> {
    match text.trim().contains(' ') {
        true => Ok(text.trim().to_owned()),
        false => Ok(read_text(Path::new(text))?.trim().to_owned()),
    }
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let fail = |why: String| CliError::usage(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(fail(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}
