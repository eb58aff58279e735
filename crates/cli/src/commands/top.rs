//! `mimeo top`: shows a machine's processes, or all machines, updated live.

use mimeo_agent_protocol::message::ProcessInfo;
use mimeo_engine::Selector;
use mimeo_engine::machine::Found;
use serde_json::json;

use crate::backend::Host;
use crate::commands::stats::{self, Sampler};
use crate::error::CliError;
use crate::{humanize, live, output};

const HEADINGS: [&str; 8] = ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"];

/// Arguments of `mimeo top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mimeo top\n  mimeo top --once web")]
pub(crate) struct Args {
    /// Print once and exit, as when standard output is not a terminal
    #[arg(long)]
    once: bool,
    /// Print JSON once and exit
    #[arg(long)]
    json: bool,
    /// Select the machine by the process id of its supervisor
    #[arg(long, conflicts_with = "machine")]
    pid: Option<u32>,
    /// The machine whose processes to show; by default all machines
    #[arg(value_name = "MACHINE")]
    machine: Option<String>,
}

impl Args {
    fn selector(&self) -> Option<Selector> {
        self.pid.map(Selector::Pid).or_else(|| self.machine.clone().map(Selector::NameOrId))
    }
}

/// Shows the processes or machines: updated live on a terminal, once elsewhere.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let live = live::is_possible() && !args.once && !args.json;
    match args.selector() {
        Some(selector) => top_machine(host, &host.find(&selector).await?, args, live).await?,
        None => top_all(host, args, live).await?,
    }
    Ok(0)
}

async fn top_machine(host: &Host, found: &Found, args: &Args, live: bool) -> Result<(), CliError> {
    if live {
        return live::run(async || Ok(output::columns(&HEADINGS, &cells(&host.processes(found).await?))))
            .await;
    }
    let processes = host.processes(found).await?;
    if args.json { output::json(&to_json(&processes)) } else { output::table(&HEADINGS, &cells(&processes)) }
}

fn cells(processes: &[ProcessInfo]) -> Vec<Vec<String>> {
    let row = |process: &ProcessInfo| {
        vec![
            process.user.clone(),
            process.pid.to_string(),
            process.ppid.to_string(),
            format!("{:.3}", percent(process)),
            humanize::cpu_time(process.elapsed_seconds * 1_000_000),
            process.tty.clone(),
            humanize::cpu_time(process.cpu_micros),
            process.command.clone(),
        ]
    };
    processes.iter().map(row).collect()
}

/// CPU usage in percent of one CPU since the process's start.
fn percent(process: &ProcessInfo) -> f64 {
    process.cpu_micros as f64 / 1e4 / process.elapsed_seconds.max(1) as f64
}

fn to_json(processes: &[ProcessInfo]) -> Vec<serde_json::Value> {
    let row = |process: &ProcessInfo| {
        json!({"User": process.user, "Uid": process.uid, "Pid": process.pid, "Ppid": process.ppid,
               "State": process.state, "Tty": process.tty, "CpuMicros": process.cpu_micros,
               "ElapsedSeconds": process.elapsed_seconds, "RssBytes": process.rss_bytes,
               "Command": process.command})
    };
    processes.iter().map(row).collect()
}

async fn top_all(host: &Host, args: &Args, live: bool) -> Result<(), CliError> {
    let mut sampler = Sampler::default();
    let mut rows = async || -> Result<_, CliError> {
        let running: Vec<_> = host.machines().await?.into_iter().filter(|found| found.supervised).collect();
        Ok(sampler.rows(host, &running).await)
    };
    if live {
        return live::run(async || {
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
