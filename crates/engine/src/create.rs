//! From a wish to a container that runs: a chain of stages, each a value that
//! only the stage before it can make. Each owns what it made; dropping it, at
//! any moment, undoes that.

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

/// Makes a machine and starts its container, whose terminal, if it has one, is of `size` from the first.
///
/// Dropping the future undoes what was done so far. Call it on a thread that
/// lives as long as the machine shall.
///
/// # Errors
/// Names the stage; nothing is left then.
pub async fn create(
    engine: &Engine,
    spec: MachineSpec,
    size: Option<TerminalSize>,
    progress: Arc<dyn Progress>,
) -> Result<Running, StartError> {
    match attempt(engine, spec.clone(), size, progress.clone()).await {
        // It was the first guest on this host's KVM. This process remembers that at least, so each driver fails so once.
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
