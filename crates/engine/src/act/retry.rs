//! Tries again what starts do without since it failed before.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::time::timeout;

use crate::create::StageError;
use crate::exclusive::exclusive;
use crate::order::Retry;
use crate::{Engine, clone, runtime};

/// A retry that takes longer hangs.
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);
/// Starts that somebody waits for have the processors first.
const NICE: i32 = 5;

/// Makes it now, while no start waits for it.
///
/// # Errors
/// When it fails once more, which is remembered; or when there is no room for it, which leaves the last reason.
pub async fn retry(engine: &Engine, retry: &Retry) -> Result<(), StageError> {
    check_room(engine.home().home(), most_bytes(engine, retry))?;
    let lock = engine.home().run().join("retry.lock");
    // It is as quick without, only less polite.
    rustix::process::nice(NICE).ok();
    let tried = async {
        // One at a time in a run directory: each boots a machine.
        let _turn =
            exclusive(&lock).await.map_err(|source| StageError::Io { step: "lock", path: lock, source })?;
        match retry {
            Retry::Runtime { spec } => runtime::retry(engine, spec).await,
            Retry::Stencil { snapshot } => clone::make_stencil(engine, snapshot).await,
        }
    };
    timeout(RETRY_TIMEOUT, tried)
        .await
        .unwrap_or(Err(StageError::RetryHangs { seconds: RETRY_TIMEOUT.as_secs() }))
}

/// What is made may be as large as this.
fn most_bytes(engine: &Engine, retry: &Retry) -> u64 {
    match retry {
        Retry::Runtime { spec } => u64::from(spec.memory_mib) << 20,
        // Where it cannot be read the retry says so.
        Retry::Stencil { snapshot } => {
            engine.snapshots().read(snapshot).map_or(0, |snapshot| snapshot.manifest.memory_bytes)
        }
    }
}

/// On a full disk a retry would take the last room from the logs and disks of those that run, if only until it fails.
fn check_room(home: &Path, bytes: u64) -> Result<(), StageError> {
    let path = home.to_owned();
    match statvfs(home) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < bytes => {
            Err(StageError::Io { step: "find room in", path, source: io::ErrorKind::StorageFull.into() })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(StageError::Io { step: "ask for the room in", path, source: error.into() }),
    }
}
