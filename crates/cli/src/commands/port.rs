//! `mimeo port`: lists a machine's published ports.

use mimeo_engine::Engine;
use mimeo_net::PortMapping;
use serde_json::json;

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
    #[command(flatten)]
    machine: Machine,
    /// Print only the host address of this port of the machine
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Prints the host address of each published port, or of the requested one.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let found = args.machine.find(engine)?;
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

fn guest_port(port: &PortMapping) -> String {
    format!("{}/{}", port.guest_port, port.protocol)
}

/// Appends `/tcp` to a number alone.
fn with_protocol(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") }
}
