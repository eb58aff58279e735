//! `mimeo system reset`: removes all machines, snapshots, images and volumes.

use std::time::Duration;

use mimeo_engine::{Engine, act, garbage, snapshot_server};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::commands::confirm::confirm;
use crate::error::CliError;

/// Time for a snapshot server to end its clones and exit.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Arguments of `mimeo system reset`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo system reset --force")]
pub(crate) struct Args {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Removes everything but what `setup` has made, boot snapshots excepted. What cannot be removed is an error.
pub(crate) async fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let warning = format!(
        "This will remove:\n\t- all machines, also those that run\n\t- all snapshots and snapshot servers\n\t- all images\n\t- all named volumes\n\
         from {}. The kernel stays.",
        engine.home().home().display()
    );
    if !args.force && !confirm(&warning)? {
        return Ok(0);
    }
    end_servers(engine).await?;
    for found in engine.registry().list()? {
        act::remove(engine, &found, true, None).await?;
    }
    for volume in engine.volumes().list()? {
        act::remove_volume(engine, &volume.name, true, None).await?;
    }
    garbage::prune(engine, true)?;
    let pruned = engine.images()?.prune(true, &|_| None)?;
    if pruned.busy {
        return Err(CliError::usage("cannot remove all images: a pull is running: reset again after it"));
    }
    Ok(0)
}

/// Ends the snapshot servers, which end their clones.
async fn end_servers(engine: &Engine) -> Result<(), CliError> {
    let list =
        || snapshot_server::list(engine).map_err(|source| CliError::io("list the snapshot servers", source));
    for server in list()? {
        let failed = |source| CliError::io(format!("end snapshot server {}", server.id), source);
        server.process.send(Signal::TERM).map_err(failed)?;
    }
    let deadline = Instant::now() + SERVER_TIMEOUT;
    while let Some(server) = list()?.first() {
        if Instant::now() > deadline {
            return Err(CliError::usage(format!(
                "cannot end snapshot server {} (pid {}): it has not ended within {} s",
                server.id,
                server.process.pid,
                SERVER_TIMEOUT.as_secs()
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
