//! `mimeo version`: shows mimeo's version, drivers and directories.

use mimeo_agent_protocol::PROTOCOL;
use mimeo_engine::Engine;
use serde_json::{Value, json};

use crate::backend::Host;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// Arguments of `mimeo version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json`, or a template of Go's text/template with fields such as {{.Version}} and {{.Client.Version}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// The version, the agent protocol, the drivers and the directories of this host.
pub(crate) fn local_fields(engine: &Engine) -> Value {
    let drivers: Vec<_> = engine.driver_names().collect();
    let system = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    json!({"Version": env!("CARGO_PKG_VERSION"), "AgentProtocol": PROTOCOL, "OsArch": system,
           "Drivers": drivers, "Home": engine.home().home(), "Run": engine.home().run()})
}

/// Prints the version, the agent protocol, the drivers and the directories.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let fields = host.version().await?;
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&fields)?,
        Some(Format::Text(text)) => {
            // docker's scripts ask for the versions of a client and a server.
            let mut all = fields.clone();
            all["Client"] = fields.clone();
            all["Server"] = fields;
            text.print(&[all], &[])?;
        }
        None => print(&fields)?,
    }
    Ok(0)
}

fn print(fields: &Value) -> Result<(), CliError> {
    let text = |key: &str| fields[key].as_str().unwrap_or_default().to_owned();
    let drivers: Vec<_> =
        fields["Drivers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    output::line(format!("Version:         {}", text("Version")))?;
    output::line(format!("Agent protocol:  {}", fields["AgentProtocol"]))?;
    output::line(format!("OS/Arch:         {}", text("OsArch")))?;
    output::line(format!("Drivers:         {}", drivers.join(", ")))?;
    // A manager tells only administrators.
    for key in ["Home", "Run"] {
        if let Some(path) = fields[key].as_str() {
            output::line(format!("{:<16} {path}", format!("{key}:")))?;
        }
    }
    Ok(())
}
