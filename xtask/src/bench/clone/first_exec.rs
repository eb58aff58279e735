//! From a snapshot to the first exec, without a pool. The guests have 512 MiB.

use std::time::Instant;

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use mimeo_engine::snapshot::Snapshot;

use super::engine_clone::EngineClone;
use super::source;
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, CLONE_STAGE_PREFIX, Measurement};
use crate::bench::stopwatch::{self, millis};

pub(in crate::bench) const TAG: &str = "warm";
const NAME: &str = "clone";

/// Measures clones that the engine starts and clones that two commands start, in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("clones, to the first exec", runs);
    source::save(site, TAG, &[], None)?;
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let snapshot = engine.snapshots().find(TAG)?;
    // Not counted: it flattens the memory.
    runtime.block_on(start_and_exec(site, &engine, &snapshot))?;
    for _ in 0..runs {
        let (took, stages) = runtime.block_on(start_and_exec(site, &engine, &snapshot))?;
        bench.sample(Measurement::FirstExec, site.subject, took);
        for (stage, took) in stages {
            bench.stage(site.subject, &format!("{CLONE_STAGE_PREFIX}{stage}"), took as f64);
        }
        bench.sample(
            Measurement::FirstExecCommands,
            site.subject,
            commands(site, &["snapshot", "run", TAG])?,
        );
    }
    Ok(())
}

/// Starts one clone; returns the time to its first exec and the times of its stages.
pub(in crate::bench) async fn start_and_exec(
    site: &Site<'_>,
    engine: &Engine,
    snapshot: &Snapshot,
) -> Result<(f64, Vec<(String, u64)>)> {
    let begun = Instant::now();
    let clone = EngineClone::start(site, &snapshot.manifest.id).await?;
    let answered = async { Session::connect(engine, clone.info.name.as_str()).await?.exec().await };
    let outcome = answered.await.map(|()| millis(begun));
    let stages = clone.info.stages.clone();
    clone.end(site).await?;
    Ok((outcome?, stages))
}

/// Starts a clone with one command and runs `exec` with another.
pub(in crate::bench) fn commands(site: &Site<'_>, run: &[&str]) -> Result<f64> {
    let run: Vec<_> = run.iter().copied().chain(["--rm", "--name", NAME]).collect();
    let started = stopwatch::run(&mut site.command(&run))?.printed(&format!("{NAME}\n"));
    let started = started.context("a clone")?.total;
    let answered = stopwatch::run(&mut site.command(["exec", NAME, "true"]))?.printed("");
    site.stop(NAME)?;
    Ok(started + answered.context("the first exec")?.total)
}
