//! `mimeo stats`: what machines use.

mod row;

use std::collections::HashMap;
use std::io::{IsTerminal, stdout};

use mimeo_engine::Engine;
use mimeo_engine::machine::{Found, MachineId};

use crate::commands::select::Machines;
use crate::error::CliError;
use crate::figures::Figures;
use crate::live::REFRESH;
use crate::output;
use crate::template::{Format, render};
use row::{FAMILY_HEADINGS, families};
pub(crate) use row::{HEADINGS, Row};

/// Arguments of `mimeo stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo stats\n  mimeo stats --no-stream --json web")]
pub(crate) struct Args {
    /// Once, instead of every two seconds
    #[arg(long)]
    no_stream: bool,
    /// Below the last figures, instead of in their place
    #[arg(long)]
    no_reset: bool,
    /// For podman's sake: machines that have ended use nothing
    #[arg(short, long)]
    all: bool,
    /// `json`, or a text with {{.name}}, {{.cpu_percent}} and the like
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// As JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Prints the figures, once or until interrupted.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let mut seen = Seen::default();
    loop {
        let rows = seen.rows(engine, &machines(engine, &args.machines)?).await;
        if stdout().is_terminal() && !args.no_stream && !args.no_reset {
            output::bytes(b"\x1b[H\x1b[2J")?;
        }
        show(args, &rows)?;
        if args.no_stream {
            return Ok(0);
        }
        tokio::time::sleep(REFRESH).await;
    }
}

fn show(args: &Args, rows: &[Row]) -> Result<(), CliError> {
    match Format::given(args.format.as_deref(), args.json) {
        Some(Format::Json) => output::json(&rows),
        Some(Format::Text(template)) => {
            rows.iter().try_for_each(|row| output::line(render(&template, &serde_json::to_value(row)?)?))
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

/// Those that were named, or all that run.
fn machines(engine: &Engine, named: &Machines) -> Result<Vec<Found>, CliError> {
    if named.is_empty() {
        return Ok(engine
            .registry()
            .list()?
            .into_iter()
            .filter(|found| found.owned && !found.record.waiting)
            .collect());
    }
    let registry = engine.registry();
    named.selectors()?.iter().map(|selector| Ok(registry.find(selector)?)).collect()
}

/// The figures of the last look, which the next ones are compared to.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashMap<MachineId, Figures>);

impl Seen {
    /// What each machine has used since the last look, or since its start.
    pub(crate) async fn rows(&mut self, engine: &Engine, machines: &[Found]) -> Vec<Row> {
        let ask = |found: &Found| {
            let (engine, found) = (engine.clone(), found.clone());
            tokio::spawn(async move { Figures::read(&engine, &found).await })
        };
        let asked: Vec<_> = machines.iter().map(|found| (found, ask(found))).collect();
        let mut rows = Vec::new();
        for (found, figures) in asked {
            let Ok(figures) = figures.await else { continue };
            let id = found.record.id.clone();
            rows.push(Row::of(&found.record, &figures, self.0.get(&id)));
            self.0.insert(id, figures);
        }
        rows
    }
}
