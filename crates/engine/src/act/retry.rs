//! Tries again what starts do without since it failed before.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::time::timeout;

use crate::boot_snapshot::BootSnapshotError;
use crate::exclusive::exclusive;
use crate::io_error::{IoContext, IoError};
use crate::launch_request::Retry;
use crate::stage::StageError;
use crate::{Engine, boot_snapshot, clone};

/// A retry that takes longer hangs.
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);
/// What a guest that only booted saves is below this, however large its memory is: files are sparse.
const MAX_BOOT_SNAPSHOT_BYTES: u64 = 512 << 20;
/// Starts that somebody waits for have the processors first.
const NICE: i32 = 5;

/// Why a retry failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says it")]
pub enum RetryError {
    #[error(transparent)]
    BootSnapshot(#[from] BootSnapshotError),
    #[error(transparent)]
    Stencil(#[from] StageError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("the retry did not end within {seconds} s")]
    TimedOut { seconds: u64 },
}

/// Makes it now, while no start waits for it.
///
/// # Errors
/// When it fails once more, which is recorded; or when free space is short, which keeps the previously recorded reason.
pub async fn retry(engine: &Engine, retry: &Retry) -> Result<(), RetryError> {
    let lock = engine.home().run().join("retry.lock");
    // It is as quick without, only less polite.
    rustix::process::nice(NICE).ok();
    let attempt = async {
        // One at a time in a run directory: each boots a machine.
        let _turn = exclusive(&lock).await.at("lock", &lock)?;
        check_free_space(engine.home().home(), needed_bytes(engine, retry))?;
        match retry {
            Retry::Runtime { spec } => Ok(boot_snapshot::retry(engine, spec).await?),
            Retry::Stencil { snapshot } => Ok(clone::build_stencil(engine, snapshot).await?),
        }
    };
    timeout(RETRY_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(RetryError::TimedOut { seconds: RETRY_TIMEOUT.as_secs() }))
}

/// Bytes that the retry may write.
fn needed_bytes(engine: &Engine, retry: &Retry) -> u64 {
    match retry {
        Retry::Runtime { spec } => (u64::from(spec.memory_mib) << 20).min(MAX_BOOT_SNAPSHOT_BYTES),
        // If the snapshot cannot be read, the retry itself reports it.
        Retry::Stencil { snapshot } => {
            engine.snapshots().read(snapshot).map_or(0, |snapshot| snapshot.manifest.memory_bytes)
        }
    }
}

/// Refuses a retry that could fill the disk: until it fails, running machines could write neither logs nor disks.
fn check_free_space(home: &Path, bytes: u64) -> Result<(), RetryError> {
    let stat = statvfs(home).at("query the free space of", home)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let enough = if free < bytes { Err(io::ErrorKind::StorageFull) } else { Ok(()) };
    Ok(enough.at("find enough free space in", home)?)
}
