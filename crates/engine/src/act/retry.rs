//! Retries a failed build of a boot snapshot or a stencil.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::time::timeout;

use crate::boot_snapshot::BootSnapshotError;
use crate::exclusive::lock_exclusive;
use crate::io_error::{IoContext, IoError};
use crate::launch_request::Retry;
use crate::stage::StageError;
use crate::{Engine, boot_snapshot, clone};

/// A retry that takes longer is considered hung.
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);
/// Upper bound of what a booted guest saves, however large its memory is: the files are sparse.
const MAX_BOOT_SNAPSHOT_BYTES: u64 = 512 << 20;
/// The niceness of a retry, so that starts that users wait for get the CPU first.
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

/// Makes the attempt. No start waits for it.
///
/// # Errors
/// If the attempt fails again, which is recorded; or if free space is short, which keeps the previously
/// recorded reason.
pub async fn retry(engine: &Engine, retry: &Retry) -> Result<(), RetryError> {
    let lock = engine.home().run().join("retry.lock");
    // The niceness is a courtesy to other processes; the retry works without it.
    rustix::process::nice(NICE).ok();
    let attempt = async {
        // One retry at a time per run directory, because each boots a machine.
        let _turn = lock_exclusive(&lock).await.at("lock", &lock)?;
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

/// Refuses a retry that could fill the disk: running machines could then write neither logs nor disks.
fn check_free_space(home: &Path, bytes: u64) -> Result<(), RetryError> {
    let stat = statvfs(home).at("query the free space of", home)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let enough = if free < bytes { Err(io::ErrorKind::StorageFull) } else { Ok(()) };
    Ok(enough.at("find enough free space in", home)?)
}
