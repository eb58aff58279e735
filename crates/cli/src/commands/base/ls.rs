//! `mimeo base ls`: lists bases.

use jiff::Timestamp;
use mimeo_base::{Outcome, Store};

use super::row::Row;
use crate::error::CliError;
use crate::template::Format;
use crate::{humanize, output};

const HEADINGS: [&str; 7] = ["NAME", "SYSTEM", "CLOUD-INIT", "WARNINGS", "CREATED", "SIZE", "DISK USAGE"];

/// Arguments of `mimeo base ls`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo base ls\n  mimeo base ls --quiet\n  mimeo base ls --format '{{.name}} {{.digest}}'"
)]
pub(crate) struct Args {
    /// Print only names
    #[arg(short, long, conflicts_with_all = ["format", "json"])]
    quiet: bool,
    /// Do not print the heading
    #[arg(short, long)]
    noheading: bool,
    /// `json`, or a template of Go's text/template with fields such as {{.name}} and {{.virtual_bytes}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Prints the bases by name.
pub(crate) fn run(store: &Store, args: &Args) -> Result<i32, CliError> {
    let rows: Vec<_> = store.list()?.into_iter().map(|base| Row::new(store, base)).collect();
    match Format::from_arguments(args.format.as_deref(), args.json) {
        _ if args.quiet => rows.iter().try_for_each(|row| output::line(row.manifest.name.as_str()))?,
        Some(Format::Json) => output::json(&rows)?,
        Some(Format::Text(text)) => {
            let text = if args.noheading { text.without_heading() } else { text };
            let values = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            text.print(&values, &[])?;
        }
        None => {
            let now = Timestamp::now();
            let heading = (!args.noheading).then(|| HEADINGS.map(str::to_owned).to_vec());
            let cells = rows.iter().map(|row| cells(row, now));
            output::bytes(output::align(&heading.into_iter().chain(cells).collect::<Vec<_>>()).as_bytes())?;
        }
    }
    Ok(0)
}

fn cells(row: &Row, now: Timestamp) -> Vec<String> {
    let base = &row.manifest;
    let system = base.system.as_ref();
    let os = system.and_then(|system| system.os.as_ref());
    let cloud_init = system.map(|system| match &system.cloud_init {
        Some(found) => found.version.clone().unwrap_or_else(|| "yes".to_owned()),
        None => "no".to_owned(),
    });
    let warnings = base.checks.iter().filter(|check| check.outcome == Outcome::Warning).count();
    vec![
        base.name.to_string(),
        os.and_then(|os| os.pretty_name.clone().or(os.id.clone())).unwrap_or_else(|| "unknown".to_owned()),
        cloud_init.unwrap_or_else(|| "unknown".to_owned()),
        warnings.to_string(),
        humanize::ago(base.created, now),
        humanize::spaced_size(base.virtual_bytes),
        humanize::spaced_size(row.disk_usage_bytes),
    ]
}
