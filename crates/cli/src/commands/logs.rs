//! `mimeo logs`: prints the output of a machine's container.

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
    /// Keep printing new output until the machine exits
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to print from the end, or `all`
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    tail: String,
    /// Only output since this time: a date and time, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only output until this time, in the form of --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    machine: Machine,
}

/// The range of `--since` and `--until`.
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

/// Prints the container's standard output to ours, and its standard error to ours.
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

/// Prints new lines until the machine has exited and everything is read.
fn follow(
    engine: &Engine,
    found: &Found,
    file: &mut LogFile,
    range: TimeRange,
    printer: &mut Printer,
) -> Result<(), CliError> {
    loop {
        // Checked before reading: no line is written after the machine has exited.
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
        Some(found) => !found.supervised || found.record.phase() == Phase::Exited,
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
