//! `mimeo top`: a machine's processes, or all machines, as they change.

use mimeo_agent_protocol::message::{ProcessInfo, Reply, Request};
use mimeo_engine::machine::Found;
use mimeo_engine::{ControlClient, Engine, Selector};
use serde_json::json;

use crate::commands::stats::{self, Seen};
use crate::error::CliError;
use crate::{live, output, words};

const HEADINGS: [&str; 8] = ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"];

/// Arguments of `mimeo top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo top\n  mimeo top --once web")]
pub(crate) struct Args {
    /// Once, as when standard output is no terminal
    #[arg(long)]
    once: bool,
    /// As JSON, once
    #[arg(long)]
    json: bool,
    /// The machine whose monitor has this process id
    #[arg(long, conflicts_with = "machine")]
    pid: Option<u32>,
    /// The machine whose processes to show; without it, all machines
    #[arg(value_name = "MACHINE")]
    machine: Option<String>,
}

impl Args {
    fn selector(&self) -> Option<Selector> {
        self.pid.map(Selector::Pid).or_else(|| self.machine.clone().map(Selector::Word))
    }
}

/// Shows what goes on: live on a terminal, once elsewhere.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let live = live::possible() && !args.once && !args.json;
    match args.selector() {
        Some(selector) => one(engine, &engine.registry().find(&selector)?, args, live).await?,
        None => all(engine, args, live).await?,
    }
    Ok(0)
}

async fn one(engine: &Engine, found: &Found, args: &Args, live: bool) -> Result<(), CliError> {
    let client = ControlClient::connect(engine.home(), found).await?;
    if live {
        return live::live(async || Ok(output::columns(&HEADINGS, &cells(&processes(&client).await?)))).await;
    }
    let processes = processes(&client).await?;
    if args.json { output::json(&listed(&processes)) } else { output::table(&HEADINGS, &cells(&processes)) }
}

async fn processes(client: &ControlClient) -> Result<Vec<ProcessInfo>, CliError> {
    match client.guest(Request::Processes).await?.0 {
        Reply::Processes { processes } => Ok(processes),
        answer => Err(CliError::usage(format!("the agent answered out of turn: {answer:?}"))),
    }
}

fn cells(processes: &[ProcessInfo]) -> Vec<Vec<String>> {
    let row = |process: &ProcessInfo| {
        vec![
            process.user.clone(),
            process.pid.to_string(),
            process.ppid.to_string(),
            format!("{:.3}", percent(process)),
            words::clock(process.elapsed_seconds * 1_000_000),
            process.tty.clone(),
            words::clock(process.cpu_micros),
            process.command.clone(),
        ]
    };
    processes.iter().map(row).collect()
}

/// Share of one processor since the process's start.
fn percent(process: &ProcessInfo) -> f64 {
    process.cpu_micros as f64 / 1e4 / process.elapsed_seconds.max(1) as f64
}

fn listed(processes: &[ProcessInfo]) -> Vec<serde_json::Value> {
    let row = |process: &ProcessInfo| {
        json!({"User": process.user, "Uid": process.uid, "Pid": process.pid, "Ppid": process.ppid,
               "State": process.state, "Tty": process.tty, "CpuMicros": process.cpu_micros,
               "ElapsedSeconds": process.elapsed_seconds, "RssBytes": process.rss_bytes,
               "Command": process.command})
    };
    processes.iter().map(row).collect()
}

async fn all(engine: &Engine, args: &Args, live: bool) -> Result<(), CliError> {
    let mut seen = Seen::default();
    let mut rows = async || -> Result<_, CliError> {
        let running: Vec<_> = engine.registry().list()?.into_iter().filter(|found| found.owned).collect();
        Ok(seen.rows(engine, &running).await)
    };
    if live {
        return live::live(async || {
            let cells: Vec<_> = rows().await?.iter().map(stats::Row::cells).collect();
            Ok(output::columns(&stats::HEADINGS, &cells))
        })
        .await;
    }
    let rows = rows().await?;
    if args.json {
        return output::json(&rows);
    }
    output::table(&stats::HEADINGS, &rows.iter().map(stats::Row::cells).collect::<Vec<_>>())
}
