//! Tries again what starts do without since it failed before.

use crate::create::StageError;
use crate::order::Retry;
use crate::{Engine, clone, runtime};

/// Makes it now, while no start waits for it.
///
/// # Errors
/// When it fails once more, which is remembered.
pub async fn retry(engine: &Engine, retry: &Retry) -> Result<(), StageError> {
    match retry {
        Retry::Runtime { spec } => runtime::retry(engine, spec).await,
        Retry::Stencil { snapshot } => clone::make_stencil(engine, snapshot).await,
    }
}
