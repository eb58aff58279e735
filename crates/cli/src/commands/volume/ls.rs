//! `mimeo volume ls`: lists named volumes.

use mimeo_engine::Engine;
use mimeo_engine::volumes::Volume;

use super::VolumeUsers;
use super::filter::Filters;
use super::row::Row;
use crate::commands::run::volumes::LOCAL_DRIVER;
use crate::error::CliError;
use crate::output;
use crate::template::Format;

/// podman's headings of the fields of `--format`.
const FIELD_HEADINGS: [(&str, &str); 1] = [("Name", "VOLUME NAME")];

/// Arguments of `mimeo volume ls`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo volume ls\n  mimeo volume ls --quiet --filter dangling=true\n  mimeo volume ls --format '{{.Name}} {{.DiskUsage}}'"
)]
pub(crate) struct Args {
    /// Print only names
    #[arg(short, long, conflicts_with_all = ["format", "json"])]
    quiet: bool,
    /// Do not print the heading
    #[arg(short, long)]
    noheading: bool,
    /// Only matching volumes: name=, label=, label!=, dangling=, driver=, scope=, opt= or until=; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `json`, or a template of Go's text/template with fields such as {{.Name}}, {{.Driver}} and {{.Mountpoint}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Prints the volumes by name.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let users = VolumeUsers::load(engine)?;
    let filters = Filters::parse(&args.filter)?;
    let mut volumes = engine.volumes().list()?;
    volumes.retain(|volume| filters.accept(volume, users.count(&volume.name)));
    let rows = || volumes.iter().map(|volume| Row::new(engine, volume, &users));
    match Format::from_arguments(args.format.as_deref(), args.json) {
        _ if args.quiet => volumes.iter().try_for_each(|volume| output::line(volume.name.as_str()))?,
        Some(Format::Json) => output::json(&rows().collect::<Vec<_>>())?,
        // As podman, no heading over nothing.
        _ if volumes.is_empty() => {}
        Some(Format::Text(text)) => {
            let text = if args.noheading { text.without_heading() } else { text };
            let values = rows().map(|row| row.fields()).collect::<Result<Vec<_>, _>>()?;
            text.print(&values, &FIELD_HEADINGS)?;
        }
        None => print_table(args, &volumes)?,
    }
    Ok(0)
}

fn print_table(args: &Args, volumes: &[Volume]) -> Result<(), CliError> {
    let cells = |driver: &str, name: &str| vec![driver.to_owned(), name.to_owned()];
    let heading = (!args.noheading).then(|| cells("DRIVER", "VOLUME NAME"));
    let rows = volumes.iter().map(|volume| cells(LOCAL_DRIVER, volume.name.as_str()));
    output::bytes(output::align(&heading.into_iter().chain(rows).collect::<Vec<_>>()).as_bytes())
}
