//! `mimeo port`: lists a machine's published ports.

use mimeo_net::PortMapping;
use serde_json::json;

use crate::backend::Host;
use crate::commands::select::Machine;
use crate::error::CliError;
use crate::{output, view};

/// Arguments of `mimeo port`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo port web\n  mimeo port web 80/tcp")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the published ports of all machines
    #[arg(short, long, conflicts_with_all = ["json", "name", "pid", "latest", "port"])]
    all: bool,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "name")]
    pid: Option<u32>,
    /// Select the machine that was created last
    #[arg(short, long, conflicts_with_all = ["name", "pid"])]
    latest: bool,
    /// The machine: its name, its id or the start of its id
    #[arg(value_name = "MACHINE", required_unless_present_any = ["pid", "latest", "all"])]
    name: Option<String>,
    /// Print only the host address of this port of the machine
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Prints the host address of each published port, or of the requested one.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    if args.all {
        return list_all(host).await;
    }
    let machine = Machine { name: args.name.clone(), pid: args.pid, latest: args.latest };
    let found = machine.find(host).await?;
    let requested = args.port.as_deref().map(with_protocol);
    let is_requested =
        |port: &&PortMapping| requested.as_ref().is_none_or(|requested| *requested == guest_port(port));
    let ports: Vec<_> = view::published(&found.record).iter().filter(is_requested).collect();
    if let (Some(requested), true) = (&requested, ports.is_empty()) {
        let name = &found.record.name;
        return Err(CliError::usage(format!("machine {name} does not publish port {requested}")));
    }
    if args.json {
        let all = ports.iter().map(|port| {
            json!({"host_ip": port.host_ip, "host_port": port.host_port, "container_port": port.guest_port,
                   "protocol": port.protocol})
        });
        output::json(&all.collect::<Vec<_>>())?;
        return Ok(0);
    }
    for port in ports {
        let host = format!("{}:{}", port.host_ip, port.host_port.unwrap_or_default());
        output::line(if requested.is_some() { host } else { format!("{} -> {host}", guest_port(port)) })?;
    }
    Ok(0)
}

/// As podman: each line begins with the machine's id.
async fn list_all(host: &Host) -> Result<i32, CliError> {
    for found in host.machines().await?.into_iter().filter(|found| found.supervised) {
        for port in view::published(&found.record) {
            let host = format!("{}:{}", port.host_ip, port.host_port.unwrap_or_default());
            output::line(format!("{}\t{} -> {host}", found.record.id.short(), guest_port(port)))?;
        }
    }
    Ok(0)
}

fn guest_port(port: &PortMapping) -> String {
    format!("{}/{}", port.guest_port, port.protocol)
}

/// Appends `/tcp` to a number alone.
fn with_protocol(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") }
}
