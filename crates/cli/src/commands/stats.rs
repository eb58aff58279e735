//! `mimeo stats`: shows machines' resource usage.

mod row;

use std::collections::HashMap;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use mimeo_engine::machine::{Found, MachineId};

use crate::backend::Host;
use crate::commands::select::Machines;
use crate::error::CliError;
use crate::live::REFRESH;
use crate::output;
use crate::resource_usage::ResourceUsage;
use crate::template::Format;
use row::{FAMILY_HEADINGS, families};
pub(crate) use row::{HEADINGS, Row};

/// Arguments of `mimeo stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo stats\n  mimeo stats --no-stream --json web")]
pub(crate) struct Args {
    /// Print once, instead of every two seconds
    #[arg(long)]
    no_stream: bool,
    /// Print each update below the last one, without clearing the screen
    #[arg(long)]
    no_reset: bool,
    /// Accepted for compatibility with podman: machines that have exited use nothing
    #[arg(short, long)]
    all: bool,
    /// Seconds between updates
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: Option<u64>,
    /// Do not truncate ids
    #[arg(long)]
    no_trunc: bool,
    /// `json`, or a template of Go's text/template with fields such as {{.Name}} and {{.CPUPerc}}
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Prints the usage, once or until interrupted.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let mut sampler = Sampler::default();
    loop {
        let machines = select(host, &args.machines).await?;
        let mut rows = sampler.rows(host, &machines).await;
        if args.no_trunc {
            rows.iter_mut().for_each(|row| row.show_whole_id(&machines));
        }
        if stdout().is_terminal() && !args.no_stream && !args.no_reset {
            output::bytes(b"\x1b[H\x1b[2J")?;
        }
        print(args, &rows)?;
        if args.no_stream {
            return Ok(0);
        }
        tokio::time::sleep(args.interval.map_or(REFRESH, Duration::from_secs)).await;
    }
}

fn print(args: &Args, rows: &[Row]) -> Result<(), CliError> {
    match Format::from_arguments(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&rows),
        Some(Format::Text(text)) => {
            let values = rows.iter().map(Row::fields).collect::<Result<Vec<_>, _>>()?;
            text.print(&values, &row::FIELD_HEADINGS)
        }
        None => {
            output::table(&HEADINGS, &rows.iter().map(Row::cells).collect::<Vec<_>>())?;
            match families(rows) {
                families if families.is_empty() => Ok(()),
                families => {
                    output::line("")?;
                    output::table(&FAMILY_HEADINGS, &families)
                }
            }
        }
    }
}

/// The selected machines, or all running ones.
async fn select(host: &Host, named: &Machines) -> Result<Vec<Found>, CliError> {
    if named.is_empty() {
        return Ok(host
            .machines()
            .await?
            .into_iter()
            .filter(|found| found.supervised && !found.record.waiting)
            .collect());
    }
    named.find(host).await?.into_iter().map(|(_, found)| Ok(found?)).collect()
}

/// The previous sample of each machine, which the next one is compared to.
#[derive(Debug, Default)]
pub(crate) struct Sampler(HashMap<MachineId, ResourceUsage>);

impl Sampler {
    /// Each machine's usage since the previous sample, or since its start.
    pub(crate) async fn rows(&mut self, host: &Host, machines: &[Found]) -> Vec<Row> {
        let read = |found: &Found| {
            let (host, found) = (host.clone(), found.clone());
            tokio::spawn(async move { host.usage(&found).await })
        };
        let pending: Vec<_> = machines.iter().map(|found| (found, read(found))).collect();
        let mut rows = Vec::new();
        for (found, usage) in pending {
            let Ok(Ok(usage)) = usage.await else { continue };
            let id = found.record.id.clone();
            rows.push(Row::new(&found.record, &usage, self.0.get(&id)));
            self.0.insert(id, usage);
        }
        rows
    }
}
