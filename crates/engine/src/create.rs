//! Starts a machine from an image, from its spec to a running container.
//!
//! The start is a chain of stages. Each stage is a value that only the stage before it can make, and owns what
//! it has allocated: dropping it at any moment undoes the stage.

mod answering;
mod imaged;
mod launched;
mod networked;
mod planned;
pub(crate) mod process;
mod running;
mod scratch;

use std::sync::Arc;

use mimeo_agent_protocol::message::TerminalSize;
use mimeo_image::Progress;

pub use crate::stage::{Stage, StageError, StartError};
use crate::{Engine, MachineSpec};
pub(crate) use answering::console_tail;
pub(crate) use planned::Stopwatch;
pub use running::Running;
pub(crate) use running::{Guest, Session, Vm};
pub use scratch::Scratch;

/// Creates a machine and starts its container. If the container has a terminal, its initial size is `size`.
///
/// Dropping the future undoes what was done so far. Call it on a thread that lives as long as the machine: the
/// VMM is killed when that thread ends.
///
/// # Errors
/// The error names the stage that failed. Nothing is left behind.
pub async fn create(
    engine: &Engine,
    spec: MachineSpec,
    size: Option<TerminalSize>,
    progress: Arc<dyn Progress>,
) -> Result<Running, StartError> {
    match attempt(engine, spec.clone(), size, progress.clone()).await {
        // The first guest on this host's KVM failed. This is recorded at least in this process, so each driver
        // fails this way at most once.
        Err(StartError { source: StageError::Kvm { .. }, .. }) => {
            Box::pin(create(engine, spec, size, progress)).await
        }
        done => done,
    }
}

async fn attempt(
    engine: &Engine,
    spec: MachineSpec,
    size: Option<TerminalSize>,
    progress: Arc<dyn Progress>,
) -> Result<Running, StartError> {
    let planned = planned::plan(engine, spec).map_err(|error| error.at(Stage::Plan))?;
    let imaged = planned.image(engine, size, progress).await.map_err(|error| error.at(Stage::Image))?;
    let networked = imaged.network().map_err(|error| error.at(Stage::Network))?;
    let launched = networked.launch(engine).await.map_err(|error| error.at(Stage::Launch))?;
    let answering = launched.answer(engine).await?;
    answering.start(engine).await
}
