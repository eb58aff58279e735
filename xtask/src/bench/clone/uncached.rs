//! The same as `first_exec`, with the memory on the disk only: as it lies
//! there, and with the pages that are needed first read ahead.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use mimeo_engine::snapshot::Snapshot;
use rustix::fs::{Advice, fadvise, syncfs};

use super::copy::Copy;
use super::first_exec::{TAG, one};
use crate::bench::lab::Site;
use crate::bench::result::{Bench, What};
use crate::bench::stopwatch;

/// A copy's working set is noted when it has run for two seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Both in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("copies of memory on the disk, to the first exec", runs);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let snapshot = engine.snapshots().find(TAG)?;
    let Some(set) = runtime.block_on(WorkingSet::noted(site, &snapshot))? else {
        bench.note("Reading ahead was not measured: no working set was noted.".to_owned());
        return Ok(());
    };
    let once = |engine: &Engine| -> Result<f64> {
        forget_memory(site)?;
        Ok(runtime.block_on(one(site, engine, &snapshot))?.0)
    };
    for _ in 0..runs {
        set.hide()?;
        bench.sample(What::FirstExecUncached, site.key, once(&engine)?);
        set.show()?;
        bench.sample(What::FirstExecAhead, site.key, once(&engine)?);
    }
    Ok(())
}

/// The note of what copies of a snapshot need first, which can be taken away.
struct WorkingSet {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WorkingSet {
    /// Of a copy that runs for as long as that takes.
    async fn noted(site: &Site<'_>, snapshot: &Snapshot) -> Result<Option<Self>> {
        let path = site.home().join("working-sets").join(snapshot.manifest.id.short());
        let copy = Copy::start(site, &snapshot.manifest.id).await?;
        let end = Instant::now() + PATIENCE;
        while !path.exists() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        copy.end(site).await?;
        let bytes = fs::read(&path).ok();
        Ok(bytes.map(|bytes| Self { path, bytes }))
    }

    fn hide(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }

    fn show(&self) -> Result<()> {
        fs::write(&self.path, &self.bytes).with_context(|| self.path.display().to_string())
    }
}

/// Has the kernel drop the pages of all memory that copies map.
fn forget_memory(site: &Site<'_>) -> Result<()> {
    ["memory", "stencils"].into_iter().try_for_each(|dir| forget(&site.home().join(dir)))
}

fn forget(path: &Path) -> Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        return entries.into_iter().try_for_each(|entry| forget(&entry?.path()));
    }
    let file = File::open(path)?;
    // What is not written yet cannot be dropped.
    syncfs(&file)?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}
