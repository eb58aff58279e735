//! `mimeo snapshot ls`: lists snapshots and snapshot servers.

use jiff::Timestamp;
use mimeo_engine::Found;
use mimeo_engine::snapshot::{Kind, Manifest};
use mimeo_engine::snapshot_server::ServeRecord;
use serde_json::{Value, json};

use crate::backend::Host;
use crate::error::CliError;
use crate::{humanize, output};

const HEADINGS: [&str; 7] = ["SNAPSHOT ID", "TAG", "KIND", "MACHINE", "CREATED", "MEMORY", "CLONES"];
const SERVE_HEADINGS: [&str; 5] = ["SERVE_ID", "PID", "HEALTH", "SNAPSHOT", "CLONES"];

/// Arguments of `mimeo snapshot ls`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo snapshot ls\n  mimeo snapshot ls --all\n  mimeo snapshot ls --json"
)]
pub(crate) struct Args {
    /// Also list snapshots that mimeo made itself: for forks and for `run` (boot snapshots)
    #[arg(short, long)]
    all: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the snapshots, and below them the servers.
pub(crate) async fn run(host: &Host, args: &Args) -> Result<i32, CliError> {
    let mut snapshots = host.snapshots().await?;
    snapshots.retain(|snapshot| args.all || snapshot.kind == Kind::Snapshot);
    if args.quiet {
        snapshots.iter().try_for_each(|snapshot| output::line(snapshot.id.short()))?;
        return Ok(0);
    }
    let serves = host.snapshot_servers().await?;
    let machines = host.machines().await?;
    if args.json {
        let snapshots: Vec<_> = snapshots.iter().map(|snapshot| snapshot_json(snapshot, &machines)).collect();
        let serves: Vec<_> = serves.iter().map(|serve| serve_json(serve, &machines)).collect();
        output::json(&json!({ "snapshots": snapshots, "serves": serves }))?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = snapshots.iter().map(|snapshot| cells(snapshot, &machines, now)).collect();
    output::table(&HEADINGS, &rows)?;
    if !serves.is_empty() {
        output::line("")?;
        let rows: Vec<_> = serves.iter().map(|serve| serve_cells(serve, &machines)).collect();
        output::table(&SERVE_HEADINGS, &rows)?;
    }
    Ok(0)
}

fn cells(manifest: &Manifest, machines: &[Found], now: Timestamp) -> Vec<String> {
    vec![
        manifest.id.short().to_owned(),
        manifest.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        manifest.kind.to_string(),
        manifest.machine.as_ref().map(|machine| machine.name.to_string()).unwrap_or_default(),
        humanize::ago(manifest.created, now),
        humanize::spaced_size(manifest.memory_bytes),
        count_clones(manifest, machines).to_string(),
    ]
}

/// Running machines that were started from the snapshot, without clones that
/// wait in a server's pool.
fn count_clones(manifest: &Manifest, machines: &[Found]) -> usize {
    let is_live_clone = |found: &&Found| {
        found.supervised && !found.record.waiting && found.record.origin.as_ref() == Some(&manifest.id)
    };
    machines.iter().filter(is_live_clone).count()
}

/// The server's clones that are in use, and those that wait in its pool.
fn count_served(serve: &ServeRecord, machines: &[Found]) -> (usize, usize) {
    let is_own = |found: &&Found| {
        found.supervised && found.record.serve.as_ref().is_some_and(|other| other.id == serve.id)
    };
    let (waiting, in_use): (Vec<_>, Vec<_>) =
        machines.iter().filter(is_own).partition(|found| found.record.waiting);
    (in_use.len(), waiting.len())
}

fn serve_cells(serve: &ServeRecord, machines: &[Found]) -> Vec<String> {
    let clones = match count_served(serve, machines) {
        (in_use, 0) if serve.pool == 0 => in_use.to_string(),
        (in_use, waiting) => format!("{in_use} (+{waiting} ready)"),
    };
    vec![
        serve.id.clone(),
        serve.process.pid.to_string(),
        health(serve).to_owned(),
        serve.snapshot_name.clone(),
        clones,
    ]
}

/// A server is healthy while its process is alive: its clones have health checks of their own.
fn health(serve: &ServeRecord) -> &'static str {
    if serve.process.is_alive() { "healthy" } else { "gone" }
}

fn snapshot_json(manifest: &Manifest, machines: &[Found]) -> Value {
    json!({
        "id": manifest.id,
        "tag": manifest.tag,
        "kind": manifest.kind,
        "machine": manifest.machine.as_ref().map(|machine| machine.name.clone()),
        "parent": manifest.parent,
        "created": manifest.created,
        "memory_bytes": manifest.memory_bytes,
        "clones": count_clones(manifest, machines),
    })
}

fn serve_json(serve: &ServeRecord, machines: &[Found]) -> Value {
    let (in_use, waiting) = count_served(serve, machines);
    json!({
        "serve_id": serve.id,
        "pid": serve.process.pid,
        "health": health(serve),
        "snapshot": serve.snapshot,
        "snapshot_name": serve.snapshot_name,
        "clones": in_use,
        "ready": waiting,
        "pool": serve.pool,
        "socket": serve.socket,
        "created": serve.created,
    })
}
