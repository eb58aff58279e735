//! Tries again what starts do without since it failed before.

use std::time::Duration;

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
/// When it fails once more, which is remembered.
pub async fn retry(engine: &Engine, retry: &Retry) -> Result<(), StageError> {
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
