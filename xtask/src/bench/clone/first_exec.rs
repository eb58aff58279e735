//! From a snapshot to the first exec answered, without a pool: 512 MiB.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use mimeo_engine::snapshot::Snapshot;
use rustix::fs::{Advice, fadvise, syncfs};

use super::copy::Copy;
use super::source;
use crate::bench::guest::Session;
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};
use crate::bench::stopwatch::{self, millis};

pub(super) const TAG: &str = "warm";
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

/// The same with the snapshot's memory on the disk only. Leaves the snapshot.
pub(super) fn uncached(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("copies of memory on the disk, to the first exec", runs);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let snapshot = engine.snapshots().find(TAG)?;
    for _ in 0..runs {
        forget_memory(site)?;
        let (took, _) = runtime.block_on(one(site, &engine, &snapshot))?;
        bench.sample(What::FirstExecUncached, site.key, took);
    }
    bench.note(
        "A working set that is read ahead was not measured: nothing reads one ahead yet. The line of copies whose memory is \
         not cached says what such a start takes without."
            .to_owned(),
    );
    Ok(())
}

async fn one(site: &Site<'_>, engine: &Engine, snapshot: &Snapshot) -> Result<(f64, Vec<(String, u64)>)> {
    let begun = Instant::now();
    let copy = Copy::start(site, &snapshot.manifest.id).await?;
    let answered = async { Session::with(engine, copy.info.name.as_str()).await?.exec().await };
    let outcome = answered.await.map(|()| millis(begun));
    let stages = copy.info.stages.clone();
    copy.end(site).await?;
    Ok((outcome?, stages))
}

/// A command that starts a copy, then one in it.
pub(super) fn commands(site: &Site<'_>, run: &[&str]) -> Result<f64> {
    let run: Vec<_> = run.iter().copied().chain(["--rm", "--name", NAME]).collect();
    let started = stopwatch::run(&mut site.command(&run))?.printed(&format!("{NAME}\n"));
    let started = started.context("a copy")?.whole;
    let answered = stopwatch::run(&mut site.command(["exec", NAME, "true"]))?.printed("");
    site.stop(NAME)?;
    Ok(started + answered.context("the first exec")?.whole)
}

/// Has the kernel drop the pages of all memory that copies map.
fn forget_memory(site: &Site<'_>) -> Result<()> {
    let laid_out = site.home().join("memory");
    for boot in std::fs::read_dir(&laid_out).with_context(|| laid_out.display().to_string())? {
        for file in std::fs::read_dir(boot?.path())? {
            let file = File::open(file?.path())?;
            // What is not written yet cannot be dropped.
            syncfs(&file)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
