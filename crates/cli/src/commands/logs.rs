//! `mimeo logs`: prints the output of machines' containers.

mod file;
mod printer;
mod tail;

use std::time::Duration;

use jiff::Timestamp;
use mimeo_engine::Engine;
use mimeo_engine::log::{LogDriver, LogLine};
use mimeo_engine::machine::{Found, Phase};

use crate::commands::select::Machines;
use crate::error::CliError;
use crate::values::timestamp;
use file::LogFile;
use printer::Printer;
use tail::Tail;

/// Time between looks at several logs.
const SEVERAL_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `mimeo logs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo logs --follow --tail 10 web\n  mimeo logs --since 10m --timestamps web\n  mimeo logs --names web db"
)]
pub(crate) struct Args {
    /// Keep printing new output until the machine exits
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to print from the end of each log; `all` or a negative number for all
    #[arg(long, default_value = "all", value_name = "N", allow_hyphen_values = true)]
    tail: String,
    /// Begin each line with the machine's name; with several machines it begins with the id otherwise
    #[arg(short = 'n', long = "names")]
    show_names: bool,
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
    machines: Machines,
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

/// A machine's log and what is printed of it.
struct Source {
    found: Found,
    file: LogFile,
    printer: Printer,
    /// Whether everything is read.
    finished: bool,
}

impl Source {
    fn new(found: Found, args: &Args, is_one_of_several: bool) -> Result<Self, CliError> {
        let record = &found.record;
        if record.spec.log.driver == LogDriver::None {
            let name = &record.name;
            return Err(CliError::usage(format!(
                "machine {name} is using the 'none' log driver, cannot read logs: run it without --log-driver none"
            )));
        }
        let prefix = match () {
            () if args.show_names => Some(record.name.to_string()),
            () if is_one_of_several => Some(record.id.short().to_owned()),
            () => None,
        };
        let file = LogFile::new(found.dir.clone(), record.spec.log);
        Ok(Self { file, printer: Printer::new(args.timestamps, prefix), found, finished: false })
    }

    /// Prints the last lines.
    fn print_tail(&mut self, range: TimeRange, limit: Option<usize>) -> Result<(), CliError> {
        let Self { file, printer, .. } = self;
        let mut tail = Tail::new(limit);
        read(file, range, |line| match tail.push(line) {
            Some(line) => printer.print(&line),
            None => Ok(()),
        })?;
        tail.into_lines().try_for_each(|line| printer.print(&line))?;
        printer.flush()
    }

    /// Prints new lines.
    fn print_new(&mut self, engine: &Engine, range: TimeRange) -> Result<(), CliError> {
        // Checked before reading: no line is written after the machine has exited.
        self.finished = has_ended(engine, &self.found) || range.is_over();
        let Self { file, printer, .. } = self;
        read(file, range, |line| printer.print(&line))?;
        printer.flush()
    }
}

/// Prints the containers' standard output to ours, and their standard error to ours, one log after the other.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let range = TimeRange::from_arguments(args)?;
    let limit = parse_tail(&args.tail)?;
    let machines = args.machines.find(engine)?;
    let is_one_of_several = machines.len() > 1;
    let found = machines.into_iter().map(|(_, found)| found);
    let sources = found.map(|found| Source::new(found?, args, is_one_of_several));
    let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
    sources.iter_mut().try_for_each(|source| source.print_tail(range, limit))?;
    if args.follow {
        follow(engine, sources, range)?;
    }
    Ok(0)
}

/// Prints new lines until the machines have exited and everything is read.
fn follow(engine: &Engine, mut sources: Vec<Source>, range: TimeRange) -> Result<(), CliError> {
    loop {
        sources.iter_mut().try_for_each(|source| source.print_new(engine, range))?;
        sources.retain(|source| !source.finished);
        match &mut sources[..] {
            [] => return Ok(()),
            [source] => source.file.wait(),
            _ => std::thread::sleep(SEVERAL_INTERVAL),
        }
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

/// podman prints all lines for a negative number.
fn parse_tail(text: &str) -> Result<Option<usize>, CliError> {
    match text.parse::<i64>() {
        _ if text == "all" => Ok(None),
        Ok(number) => Ok(usize::try_from(number).ok()),
        Err(_) => Err(CliError::usage(format!("--tail {text:?} is neither a number nor `all`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_takes_a_number_or_all() {
        let tail = |text| parse_tail(text).expect("valid");
        assert_eq!(
            [tail("0"), tail("7"), tail("-1"), tail("-5"), tail("all")],
            [Some(0), Some(7), None, None, None]
        );
        for bad in ["", "x", "1x", "--all", "99999999999999999999"] {
            assert!(parse_tail(bad).is_err(), "{bad:?}");
        }
    }
}
