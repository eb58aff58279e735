//! `mimeo ps`: lists machines.

mod fields;
mod row;
mod size;
mod sort;

use jiff::Timestamp;
use mimeo_engine::Found;

use crate::backend::Host;
use crate::commands::filter::Filters;
use crate::error::CliError;
use crate::humanize;
use crate::mounts;
use crate::output;
use crate::template::Format;
use crate::view::{self, ImageNames};
use row::Row;
use size::Size;
use sort::SortKey;

const COLUMNS: [&str; 7] = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];

/// Arguments of `mimeo ps`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo ps -a\n  mimeo ps --filter status=exited -q\n  mimeo ps --format 'table {{.Names}}\\t{{.Ports}}'\n  mimeo ps --pid $! --json"
)]
pub(crate) struct Args {
    /// Also list machines that have exited
    #[arg(short, long)]
    all: bool,
    /// Only the N machines that were created last, also exited ones
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Only the machine that was created last, also if it has exited
    #[arg(short, long)]
    latest: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Do not print the heading
    #[arg(long)]
    noheading: bool,
    /// Also print the disk space that each machine has written
    #[arg(short, long)]
    size: bool,
    /// Sort by this instead of the time of creation
    #[arg(long, value_enum, value_name = "KEY")]
    sort: Option<SortKey>,
    /// Only matching machines: name=, id=, status=, label=, label!=, health=, ancestor=, exited=, before=,
    /// since=, until=, volume= or network=; can be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only the machine whose supervisor has this process id
    #[arg(long)]
    pid: Option<u32>,
    /// `json`, or a template of Go's text/template with fields such as {{.ID}}, {{.Names}} and {{.Status}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Accepted for compatibility with podman: the state is always current
    #[arg(long, hide = true)]
    sync: bool,
    /// Accepted for compatibility with podman: there are no machines but mimeo's
    #[arg(long, hide = true)]
    external: bool,
    #[command(flatten)]
    refused: Refused,
}

/// podman's options that concern what mimeo does not have.
#[derive(Debug, clap::Args)]
struct Refused {
    #[arg(long, hide = true)]
    ns: bool,
    #[arg(short = 'p', long, hide = true)]
    pod: bool,
    #[arg(short = 'w', long, hide = true)]
    watch: Option<u32>,
}

impl Refused {
    fn check(&self) -> Result<(), CliError> {
        let refused = |reason: &str| Err(CliError::usage(reason));
        match self {
            Self { ns: true, .. } => refused("cannot use --ns: machines share no namespace with the host"),
            Self { pod: true, .. } => {
                refused("cannot use --pod: mimeo has no pods: each machine is on its own")
            }
            Self { watch: Some(_), .. } => {
                refused("cannot use --watch: run `watch mimeo ps`, or `mimeo top`")
            }
            _ => Ok(()),
        }
    }
}

/// A machine that is listed.
struct Entry {
    found: Found,
    image: String,
    /// Where something is mounted in its container.
    mounts: Vec<String>,
    size: Option<Size>,
}

/// Prints the machines, newest first.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    args.refused.check()?;
    let mut entries = entries(host, args).await?;
    if let Some(key) = args.sort {
        sort::sort(&mut entries, key);
    }
    print(args, &entries)?;
    Ok(0)
}

async fn entries(host: &Host, args: &Args) -> Result<Vec<Entry>, CliError> {
    let names = ImageNames::load(host).await?;
    let filters = Filters::parse(&args.filter, host).await?;
    let last = if args.latest { Some(1) } else { args.last.and_then(|last| usize::try_from(last).ok()) };
    let all = args.all || last.is_some() || filters.include_exited();
    let mut found = host.machines().await?;
    found.reverse();
    let is_shown = |found: &Found| {
        // A clone that waits in a pool is not in use yet: `snapshot ls` counts it.
        !found.record.waiting
            && args.pid.is_none_or(|pid| found.supervised && found.record.has_process(pid))
            && (all || found.record.phase().is_live())
            && filters.accept(&found.record)
    };
    found.retain(is_shown);
    found.truncate(last.unwrap_or(usize::MAX));
    let entry = |found: Found| Entry {
        image: names.name_for(&found.record),
        mounts: mounts::targets(&found.record, &names),
        size: args.size.then(|| Size::measure(&found, &names)),
        found,
    };
    Ok(found.into_iter().map(entry).collect())
}

fn print(args: &Args, entries: &[Entry]) -> Result<(), CliError> {
    let now = Timestamp::now();
    match Format::from_arguments(args.format.as_deref(), args.json) {
        _ if args.quiet => entries.iter().try_for_each(|entry| output::line(id(args, &entry.found))),
        Some(Format::Json) => {
            output::json(&entries.iter().map(|entry| Row::new(entry, now)).collect::<Vec<_>>())
        }
        Some(Format::Text(text)) => {
            let rows: Vec<_> = entries.iter().map(|entry| fields::fields(args, entry, now)).collect();
            let text = if args.noheading { text.without_heading() } else { text };
            text.print(&rows, &fields::HEADINGS)
        }
        None => print_table(args, entries, now),
    }
}

fn print_table(args: &Args, entries: &[Entry], now: Timestamp) -> Result<(), CliError> {
    let mut heading: Vec<String> = COLUMNS.iter().map(ToString::to_string).collect();
    heading.extend(args.size.then(|| "SIZE".to_owned()));
    let rows = entries.iter().map(|entry| cells(args, entry, now));
    let heading = (!args.noheading).then_some(heading);
    output::bytes(output::align(&heading.into_iter().chain(rows).collect::<Vec<_>>()).as_bytes())
}

fn id(args: &Args, found: &Found) -> String {
    let id = &found.record.id;
    if args.no_trunc { id.to_string() } else { id.short().to_owned() }
}

fn cells(args: &Args, entry: &Entry, now: Timestamp) -> Vec<String> {
    let record = &entry.found.record;
    let mut cells = vec![
        id(args, &entry.found),
        entry.image.clone(),
        humanize::command(&record.process.args, args.no_trunc),
        humanize::ago(record.times.created, now),
        view::status(record, now),
        view::ports(record),
        record.name.to_string(),
    ];
    cells.extend(entry.size.as_ref().map(ToString::to_string));
    cells
}
