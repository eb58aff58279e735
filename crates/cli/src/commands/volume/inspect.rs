//! `mimeo volume inspect`: shows details of named volumes.

use mimeo_engine::Engine;

use super::row::Row;
use super::{VolumeUsers, find};
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// Arguments of `mimeo volume inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo volume inspect --format '{{.Mountpoint}}' data")]
pub(crate) struct Args {
    /// All volumes
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// `json`, or a template of Go's text/template with fields such as {{.Name}} and {{.Labels}}
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON (the default)
    #[arg(long)]
    json: bool,
    /// Names of volumes, or beginnings of names
    #[arg(required_unless_present = "all", value_name = "VOLUME")]
    names: Vec<String>,
}

/// Prints a JSON array of the volumes that exist, and an error for each other name.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let users = VolumeUsers::load(engine)?;
    let mut volumes = if args.all { engine.volumes().list()? } else { Vec::new() };
    let mut code = 0;
    for name in &args.names {
        let found = find(engine, name);
        let found = found.and_then(|found| found.ok_or_else(|| unknown(name)));
        match found {
            Ok(volume) => volumes.push(volume),
            Err(error) => {
                output::error(&error);
                code = error.exit_code();
            }
        }
    }
    let rows: Vec<_> = volumes.iter().map(|volume| Row::new(engine, volume, &users)).collect();
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Text(text)) => {
            let values = rows.iter().map(Row::fields).collect::<Result<Vec<_>, _>>()?;
            // podman's inspect prints no heading, even for `table`.
            text.without_heading().print(&values, &[])?;
        }
        Some(Format::Json) | None => output::json(&rows)?,
    }
    Ok(code)
}

/// podman's error for a volume that does not exist.
fn unknown(name: &str) -> CliError {
    CliError::usage(format!("inspecting object: no such volume {name}"))
}
