//! `mimeo version`: shows mimeo's version, drivers and directories.

use mimeo_agent_protocol::PROTOCOL;
use mimeo_engine::Engine;
use serde_json::json;

use crate::error::CliError;
use crate::output;

/// Arguments of `mimeo version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the version, the agent protocol, the drivers and the directories.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let system = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let drivers: Vec<_> = engine.driver_names().collect();
    let (home, run) = (engine.home().home(), engine.home().run());
    if args.json {
        output::json(&json!({"Version": version, "AgentProtocol": PROTOCOL, "OsArch": system,
                             "Drivers": drivers, "Home": home, "Run": run}))?;
        return Ok(0);
    }
    output::line(format!("Version:         {version}"))?;
    output::line(format!("Agent protocol:  {PROTOCOL}"))?;
    output::line(format!("OS/Arch:         {system}"))?;
    output::line(format!("Drivers:         {}", drivers.join(", ")))?;
    output::line(format!("Home:            {}", home.display()))?;
    output::line(format!("Run:             {}", run.display()))?;
    Ok(0)
}
