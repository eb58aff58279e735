//! The same as `first_exec` with the memory file not in the page cache, without and
//! with read-ahead of the working set.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mimeo_engine::Engine;
use mimeo_engine::snapshot::Snapshot;
use rustix::fs::{Advice, fadvise, syncfs};

use super::engine_clone::EngineClone;
use super::first_exec::{TAG, start_and_exec};
use crate::bench::lab::Site;
use crate::bench::result::{Bench, Measurement};
use crate::bench::stopwatch;

/// A clone's working set is recorded after it has run for two seconds.
const RECORD_TIMEOUT: Duration = Duration::from_secs(15);

/// Measures both in turn.
pub(super) fn measure(bench: &mut Bench, site: &Site<'_>, runs: u32) -> Result<()> {
    crate::bench::announce("clones with uncached memory, to the first exec", runs);
    let (runtime, engine) = (stopwatch::runtime()?, site.engine()?);
    let snapshot = engine.snapshots().find(TAG)?;
    let Some(set) = runtime.block_on(WorkingSet::record(site, &snapshot))? else {
        bench.note("Reading ahead was not measured: no working set was recorded.".to_owned());
        return Ok(());
    };
    let once = |engine: &Engine| -> Result<f64> {
        drop_cached_memory(site)?;
        Ok(runtime.block_on(start_and_exec(site, engine, &snapshot))?.0)
    };
    for _ in 0..runs {
        set.remove()?;
        bench.sample(Measurement::FirstExecUncached, site.subject, once(&engine)?);
        set.restore()?;
        bench.sample(Measurement::FirstExecPrefetched, site.subject, once(&engine)?);
    }
    Ok(())
}

/// A snapshot's working set file, which can be removed and restored.
struct WorkingSet {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl WorkingSet {
    /// Runs a clone until its working set has been recorded.
    async fn record(site: &Site<'_>, snapshot: &Snapshot) -> Result<Option<Self>> {
        let path = site.home().join("working-sets").join(snapshot.manifest.id.short());
        let clone = EngineClone::start(site, &snapshot.manifest.id).await?;
        let end = Instant::now() + RECORD_TIMEOUT;
        while !path.exists() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        clone.end(site).await?;
        let bytes = fs::read(&path).ok();
        Ok(bytes.map(|bytes| Self { path, bytes }))
    }

    fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| self.path.display().to_string())
    }

    fn restore(&self) -> Result<()> {
        fs::write(&self.path, &self.bytes).with_context(|| self.path.display().to_string())
    }
}

/// Drops the pages of all files that clones map from the page cache.
fn drop_cached_memory(site: &Site<'_>) -> Result<()> {
    ["memory", "stencils"].into_iter().try_for_each(|dir| drop_cached(&site.home().join(dir)))
}

fn drop_cached(path: &Path) -> Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        return entries.into_iter().try_for_each(|entry| drop_cached(&entry?.path()));
    }
    let file = File::open(path)?;
    // Dirty pages cannot be dropped.
    syncfs(&file)?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}
