//! `mimeo ps`: lists machines.

pub(crate) mod filter;
mod row;

use jiff::Timestamp;
use mimeo_engine::{Engine, Found};
use serde_json::json;

use crate::error::CliError;
use crate::humanize;
use crate::output;
use crate::template::{Format, render};
use crate::view::{self, ImageNames};
use filter::Filter;
use row::Row;

const HEADINGS: [&str; 7] = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];

/// Arguments of `mimeo ps`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo ps -a\n  mimeo ps --filter status=exited -q\n  mimeo ps --pid $! --json"
)]
pub(crate) struct Args {
    /// Also list machines that have exited
    #[arg(short, long)]
    all: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only matching machines: name=, id=, status=, label=, health=, ancestor= or exited=; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only the machine whose supervisor has this process id
    #[arg(long)]
    pid: Option<u32>,
    /// `json`, or a template with fields such as {{.ID}}, {{.Names}} and {{.Status}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Prints the machines, newest first.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let names = ImageNames::load(engine)?;
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut found = engine.registry().list()?;
    found.reverse();
    let is_shown = |found: &Found| {
        // A clone that waits in a pool is not in use yet: `snapshot ls` counts it.
        !found.record.waiting
            && args.pid.is_none_or(|pid| found.supervised && found.record.has_process(pid))
            && (args.all || found.record.phase().is_live() || filter::includes_exited(&filters))
            && filter::accepts(&filters, &found.record, &names.name_for(&found.record))
    };
    found.retain(is_shown);
    print(args, &found, &names)?;
    Ok(0)
}

fn print(args: &Args, found: &[Found], names: &ImageNames) -> Result<(), CliError> {
    let now = Timestamp::now();
    match Format::from_arguments(args.format.as_deref(), args.json) {
        _ if args.quiet => found.iter().try_for_each(|found| output::line(id(args, found))),
        Some(Format::Json) => {
            let rows = found.iter().map(|found| Row::new(&found.record, names.name_for(&found.record), now));
            output::json(&rows.collect::<Vec<_>>())
        }
        Some(Format::Text(template)) => found
            .iter()
            .try_for_each(|found| output::line(render(&template, &fields(args, found, names, now))?)),
        None => {
            let rows: Vec<_> = found.iter().map(|found| cells(args, found, names, now)).collect();
            output::table(&HEADINGS, &rows)
        }
    }
}

fn id(args: &Args, found: &Found) -> String {
    let id = &found.record.id;
    if args.no_trunc { id.to_string() } else { id.short().to_owned() }
}

fn cells(args: &Args, found: &Found, names: &ImageNames, now: Timestamp) -> Vec<String> {
    let record = &found.record;
    vec![
        id(args, found),
        names.name_for(record),
        humanize::command(&record.process.args, args.no_trunc),
        humanize::ago(record.times.created, now),
        view::status(record, now),
        view::ports(record),
        record.name.to_string(),
    ]
}

/// The fields for `--format`, with podman's names.
fn fields(args: &Args, found: &Found, names: &ImageNames, now: Timestamp) -> serde_json::Value {
    let record = &found.record;
    json!({
        "ID": id(args, found),
        "Image": names.name_for(record),
        "Command": humanize::command(&record.process.args, args.no_trunc),
        "CreatedAt": record.times.created.to_string(),
        "Created": humanize::ago(record.times.created, now),
        "RunningFor": humanize::ago(record.times.created, now),
        "Status": view::status(record, now),
        "State": view::state(record.phase()),
        "Ports": view::ports(record),
        "Names": record.name,
        "Labels": record.spec.labels,
        "Pid": record.supervisor.pid,
        "ExitCode": record.exit().map(|exit| exit.code),
    })
}
