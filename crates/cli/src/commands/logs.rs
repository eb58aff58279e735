//! `mimeo logs`: what a container has written, and writes.

mod file;
mod printer;
mod tail;

use jiff::Timestamp;
use mimeo_engine::log::LogLine;
use mimeo_engine::machine::{Found, Phase};
use mimeo_engine::{Engine, log};

use crate::commands::select::Machine;
use crate::error::CliError;
use crate::values::timestamp;
use file::LogFile;
use printer::Printer;
use tail::Tail;

/// Arguments of `mimeo logs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo logs --follow --tail 10 web\n  mimeo logs --since 10m --timestamps web"
)]
pub(crate) struct Args {
    /// Go on until the machine ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines: a number, or `all`
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    tail: String,
    /// Nothing older: a time, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing younger, written as --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With the time of each line
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Which times are wanted.
#[derive(Debug, Clone, Copy)]
struct TimeRange {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl TimeRange {
    fn from_arguments(args: &Args) -> Result<Self, CliError> {
        let now = Timestamp::now();
        let parse =
            |flag, text: &Option<String>| text.as_deref().map(|text| timestamp(flag, text, now)).transpose();
        Ok(Self { since: parse("--since", &args.since)?, until: parse("--until", &args.until)? })
    }

    fn contains(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Timestamp::now() > until)
    }
}

/// Prints standard output on ours, standard error on ours.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let found = args.machine.find(engine)?;
    let range = TimeRange::from_arguments(args)?;
    let mut printer = Printer::new(args.timestamps);
    let mut file = LogFile::new(found.dir.join(log::FILE));
    let mut tail = Tail::new(parse_tail(&args.tail)?);
    read(&mut file, range, |line| match tail.push(line) {
        Some(line) => printer.print(&line),
        None => Ok(()),
    })?;
    tail.into_lines().try_for_each(|line| printer.print(&line))?;
    printer.flush()?;
    if args.follow {
        follow(engine, &found, &mut file, range, &mut printer)?;
    }
    Ok(0)
}

/// Goes on until the machine has ended and all is read.
fn follow(
    engine: &Engine,
    found: &Found,
    file: &mut LogFile,
    range: TimeRange,
    printer: &mut Printer,
) -> Result<(), CliError> {
    loop {
        // Looked at first: what is read after the end is all that there will be.
        let ended = has_ended(engine, found) || range.is_over();
        read(file, range, |line| printer.print(&line))?;
        printer.flush()?;
        if ended {
            return Ok(());
        }
        file.wait();
    }
}

fn read(
    file: &mut LogFile,
    range: TimeRange,
    mut on_line: impl FnMut(LogLine) -> Result<(), CliError>,
) -> Result<(), CliError> {
    file.read(|line| if range.contains(line.time) { on_line(line) } else { Ok(()) })
}

fn has_ended(engine: &Engine, found: &Found) -> bool {
    match engine.registry().read(&found.record.id) {
        Some(found) => !found.owned || found.record.phase() == Phase::Exited,
        None => true,
    }
}

fn parse_tail(text: &str) -> Result<Option<usize>, CliError> {
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) if text == "all" || text.starts_with('-') => Ok(None),
        Err(_) => Err(CliError::usage(format!("--tail {text:?} is neither a number nor `all`"))),
    }
}
