//! The same as `first_exec`, from a pool that has had the time to fill again.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mimeo_engine::Engine;
use mimeo_engine::launch_request::CloneOverrides;
use mimeo_engine::serve::{self, ServeRecord};
use rustix::process::{Pid, Signal, kill_process};

use super::first_exec::{TAG, commands};
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};
use crate::bench::stopwatch::{self, millis};

/// Copies that it keeps ready.
const SIZE: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// A pool that is full again has just warmed its last copy.
const SETTLING: Duration = Duration::from_millis(200);

/// By the engine's own way and by two commands, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("copies from a pool, to the first exec", runs);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let server = Server::start(site)?;
    let record = serve::find(&engine, &server.pid())?;
    for _ in 0..runs {
        server.fill()?;
        bench.sample(What::PoolExec, site.key, runtime.block_on(one(site, &engine, &record))?);
        server.fill()?;
        let run = ["snapshot", "run", "--pid", &server.pid()];
        bench.sample(What::PoolExecCommands, site.key, commands(site, &run)?);
    }
    Ok(())
}

async fn one(site: &Site<'_>, engine: &Engine, record: &ServeRecord) -> Result<f64> {
    let begun = Instant::now();
    let wishes = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let cloned = serve::run(record, vec![wishes]).await?.pop().context("one was asked for")?;
    let name = cloned.outcome?.name;
    let answered = async { Session::with(engine, name.as_str()).await?.exec().await };
    let outcome = answered.await.map(|()| millis(begun));
    site.stop(name.as_str())?;
    outcome
}

/// `snapshot serve --pool`; ends with this.
pub(in crate::bench) struct Server<'a> {
    site: &'a Site<'a>,
    process: Child,
}

impl<'a> Server<'a> {
    pub(in crate::bench) fn start(site: &'a Site<'a>) -> Result<Self> {
        let mut command = site.command(["snapshot", "serve", TAG, "--pool", &SIZE.to_string()]);
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        // Its first words say that it can be asked.
        let mut word = [0];
        let said = process.stdout.as_mut().map(|stdout| stdout.read(&mut word));
        let server = Self { site, process };
        ensure!(matches!(said, Some(Ok(1))), "the server ended without a word");
        Ok(server)
    }

    pub(in crate::bench) fn pid(&self) -> String {
        self.process.id().to_string()
    }

    /// Waits until the pool is full.
    pub(in crate::bench) fn fill(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let told = self.site.json(&["snapshot", "ls", "--json"])?;
            if told.pointer("/serves/0/ready").and_then(serde_json::Value::as_u64) == Some(SIZE) {
                std::thread::sleep(SETTLING);
                return Ok(());
            }
            ensure!(Instant::now() < end, "the pool does not fill: {told}");
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
            eprintln!("the server: {error}");
        }
    }
}
