//! From a snapshot to the first exec answered, without a pool: 512 MiB.

use std::time::Instant;

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use mimeo_engine::snapshot::Snapshot;

use super::copy::Copy;
use super::source;
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};
use crate::bench::stopwatch::{self, millis};

pub(in crate::bench) const TAG: &str = "warm";
const NAME: &str = "copy";

/// By the engine's own way and by two commands, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("copies, to the first exec", runs);
    source::keep(site, TAG, &[], None)?;
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let snapshot = engine.snapshots().find(TAG)?;
    // Not counted: it lays the memory out.
    runtime.block_on(one(site, &engine, &snapshot))?;
    for _ in 0..runs {
        let (took, stages) = runtime.block_on(one(site, &engine, &snapshot))?;
        bench.sample(What::FirstExec, site.key, took);
        for (stage, took) in stages {
            bench.stage(site.key, &format!("copy: {stage}"), took as f64);
        }
        bench.sample(What::FirstExecCommands, site.key, commands(site, &["snapshot", "run", TAG])?);
    }
    Ok(())
}

/// One copy; the time, and that of its stages.
pub(in crate::bench) async fn one(
    site: &Site<'_>,
    engine: &Engine,
    snapshot: &Snapshot,
) -> Result<(f64, Vec<(String, u64)>)> {
    let begun = Instant::now();
    let copy = Copy::start(site, &snapshot.manifest.id).await?;
    let answered = async { Session::with(engine, copy.info.name.as_str()).await?.exec().await };
    let outcome = answered.await.map(|()| millis(begun));
    let stages = copy.info.stages.clone();
    copy.end(site).await?;
    Ok((outcome?, stages))
}

/// A command that starts a copy, then one in it.
pub(in crate::bench) fn commands(site: &Site<'_>, run: &[&str]) -> Result<f64> {
    let run: Vec<_> = run.iter().copied().chain(["--rm", "--name", NAME]).collect();
    let started = stopwatch::run(&mut site.command(&run))?.printed(&format!("{NAME}\n"));
    let started = started.context("a copy")?.whole;
    let answered = stopwatch::run(&mut site.command(["exec", NAME, "true"]))?.printed("");
    site.stop(NAME)?;
    Ok(started + answered.context("the first exec")?.whole)
}
