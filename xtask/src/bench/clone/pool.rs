//! The same as `first_exec`, with clones from a pool that is full.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mimeo_engine::Engine;
use mimeo_engine::launch_request::CloneOverrides;
use mimeo_engine::snapshot_server::{self, ServeRecord};
use rustix::process::{Pid, Signal, kill_process};

use super::first_exec::{TAG, commands};
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Measurement};
use crate::bench::stopwatch::{self, millis};

/// The pool's size.
const SIZE: u64 = 2;
const FILL_TIMEOUT: Duration = Duration::from_secs(60);
/// When the pool becomes full, its last clone has just been warmed up.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Measures clones that the engine requests and clones that two commands request, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("clones from a pool, to the first exec", runs);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let server = Server::start(site)?;
    let record = snapshot_server::find(&engine, &server.pid())?;
    for _ in 0..runs {
        server.wait_until_full()?;
        bench.sample(
            Measurement::PoolExec,
            site.subject,
            runtime.block_on(claim_and_exec(site, &engine, &record))?,
        );
        server.wait_until_full()?;
        let run = ["snapshot", "run", "--pid", &server.pid()];
        bench.sample(Measurement::PoolExecCommands, site.subject, commands(site, &run)?);
    }
    Ok(())
}

async fn claim_and_exec(site: &Site<'_>, engine: &Engine, record: &ServeRecord) -> Result<f64> {
    let begun = Instant::now();
    let overrides = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let cloned = snapshot_server::start_clones(record, vec![overrides])
        .await?
        .pop()
        .context("the server returned no clone")?;
    let name = cloned.outcome?.name;
    let answered = async { Session::connect(engine, name.as_str()).await?.exec().await };
    let outcome = answered.await.map(|()| millis(begun));
    site.stop(name.as_str())?;
    outcome
}

/// `snapshot serve --pool`; it is terminated when this is dropped.
pub(in crate::bench) struct Server<'a> {
    site: &'a Site<'a>,
    process: Child,
}

impl<'a> Server<'a> {
    pub(in crate::bench) fn start(site: &'a Site<'a>) -> Result<Self> {
        let mut command = site.command(["snapshot", "serve", TAG, "--pool", &SIZE.to_string()]);
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        // The server prints its first line when it accepts requests.
        let mut byte = [0];
        let read = process.stdout.as_mut().map(|stdout| stdout.read(&mut byte));
        let server = Self { site, process };
        ensure!(matches!(read, Some(Ok(1))), "the server ended without output");
        Ok(server)
    }

    pub(in crate::bench) fn pid(&self) -> String {
        self.process.id().to_string()
    }

    /// Waits until the pool is full.
    pub(in crate::bench) fn wait_until_full(&self) -> Result<()> {
        let end = Instant::now() + FILL_TIMEOUT;
        loop {
            let listed = self.site.json(&["snapshot", "ls", "--json"])?;
            if listed.pointer("/serves/0/ready").and_then(serde_json::Value::as_u64) == Some(SIZE) {
                std::thread::sleep(SETTLE_TIME);
                return Ok(());
            }
            ensure!(Instant::now() < end, "the pool does not fill: {listed}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let ended = Pid::from_raw(self.process.id().cast_signed())
            .map(|pid| kill_process(pid, Signal::TERM).map_err(std::io::Error::from))
            .unwrap_or(Ok(()))
            .and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("cannot end the server: {error}");
        }
    }
}
