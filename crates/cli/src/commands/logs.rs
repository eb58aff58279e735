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
use crate::values::moment;
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
struct Span {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Span {
    fn of(args: &Args) -> Result<Self, CliError> {
        let now = Timestamp::now();
        let parse =
            |what, text: &Option<String>| text.as_deref().map(|text| moment(what, text, now)).transpose();
        Ok(Self { since: parse("--since", &args.since)?, until: parse("--until", &args.until)? })
    }

    fn has(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Timestamp::now() > until)
    }
}

/// Prints standard output on ours, standard error on ours.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let found = args.machine.find(engine)?;
    let span = Span::of(args)?;
    let mut printer = Printer::new(args.timestamps);
    let mut file = LogFile::new(found.dir.join(log::FILE));
    let mut tail = Tail::new(limit(&args.tail)?);
    read(&mut file, span, |line| match tail.push(line) {
        Some(line) => printer.put(&line),
        None => Ok(()),
    })?;
    tail.into_lines().try_for_each(|line| printer.put(&line))?;
    printer.flush()?;
    if args.follow {
        follow(engine, &found, &mut file, span, &mut printer)?;
    }
    Ok(0)
}

/// Goes on until the machine has ended and all is read.
fn follow(
    engine: &Engine,
    found: &Found,
    file: &mut LogFile,
    span: Span,
    printer: &mut Printer,
) -> Result<(), CliError> {
    loop {
        // Looked at first: what is read after the end is all that there will be.
        let over = has_ended(engine, found) || span.is_over();
        read(file, span, |line| printer.put(&line))?;
        printer.flush()?;
        if over {
            return Ok(());
        }
        file.wait();
    }
}

fn read(
    file: &mut LogFile,
    span: Span,
    mut each: impl FnMut(LogLine) -> Result<(), CliError>,
) -> Result<(), CliError> {
    file.read(|line| if span.has(line.time) { each(line) } else { Ok(()) })
}

fn has_ended(engine: &Engine, found: &Found) -> bool {
    match engine.registry().read(&found.record.id) {
        Some(now) => !now.owned || now.record.phase() == Phase::Exited,
        None => true,
    }
}

fn limit(text: &str) -> Result<Option<usize>, CliError> {
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) if text == "all" || text.starts_with('-') => Ok(None),
        Err(_) => Err(CliError::usage(format!("--tail {text:?} is neither a number nor `all`"))),
    }
}
