//! `mimeo logs`: prints the output of machines' containers.

mod printer;
mod tail;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use mimeo_engine::log::{LogDriver, LogLine};
use mimeo_engine::machine::Found;

use crate::backend::{Host, LogReader};
use crate::commands::select::Machines;
use crate::error::CliError;
use crate::values::timestamp;
use printer::Printer;
use tail::Tail;

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

    /// Passes the lines in the range on.
    fn filter(
        self,
        mut on_line: impl FnMut(LogLine) -> Result<(), CliError> + Send,
    ) -> impl FnMut(LogLine) -> Result<(), CliError> + Send {
        move |line| if self.contains(line.time) { on_line(line) } else { Ok(()) }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Timestamp::now() > until)
    }
}

/// A machine's log and what is printed of it.
struct Source {
    log: Box<dyn LogReader>,
    printer: Printer,
}

impl Source {
    async fn open(
        host: &Host,
        found: &Found,
        args: &Args,
        is_one_of_several: bool,
    ) -> Result<Self, CliError> {
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
        Ok(Self { log: host.log(found).await?, printer: Printer::new(args.timestamps, prefix) })
    }

    /// Prints the last lines.
    async fn print_tail(&mut self, range: TimeRange, limit: Option<usize>) -> Result<(), CliError> {
        let Self { log, printer } = self;
        let mut tail = Tail::new(limit);
        let mut on_line = range.filter(|line| match tail.push(line) {
            Some(line) => printer.print(&line),
            None => Ok(()),
        });
        log.read(&mut on_line).await?;
        drop(on_line);
        tail.into_lines().try_for_each(|line| printer.print(&line))?;
        printer.flush()
    }

    /// Prints new lines until the machine has exited and everything is read.
    async fn follow(&mut self, range: TimeRange, is_one_of_several: bool) -> Result<(), CliError> {
        let Self { log, printer } = self;
        loop {
            // Checked before reading: no line that is read later is in the range.
            let is_over = range.is_over();
            let mut on_line = range.filter(|line| printer.print(&line));
            let may_have_more = log.follow(is_one_of_several, &mut on_line).await?;
            drop(on_line);
            printer.flush()?;
            if is_over || !may_have_more {
                return Ok(());
            }
        }
    }
}

/// Prints the containers' standard output to ours, and their standard error to ours, one log after the other.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let range = TimeRange::from_arguments(args)?;
    let limit = parse_tail(&args.tail)?;
    let machines = args.machines.find(host).await?;
    let is_one_of_several = machines.len() > 1;
    let mut sources = Vec::new();
    for (_, found) in machines {
        sources.push(Source::open(host, &found?, args, is_one_of_several).await?);
    }
    for source in &mut sources {
        source.print_tail(range, limit).await?;
    }
    if args.follow {
        let followed = sources.iter_mut().map(|source| source.follow(range, is_one_of_several));
        try_join_all(followed).await?;
    }
    Ok(0)
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
