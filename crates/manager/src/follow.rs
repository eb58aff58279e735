//! Reads files that a machine's supervisor appends to and rotates: the log of the container, and the console's.

mod console;
mod files;
mod log;
mod position;

use mimeo_engine::MachineId;
use mimeo_engine::machine::Phase;

use crate::App;
pub(crate) use console::console;
pub(crate) use files::RotatedFile;
pub(crate) use log::{Line, LogReader};
pub(crate) use position::Position;

/// Time between two looks at a file.
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Waits until the next look at a file.
pub(crate) async fn next_look() {
    tokio::time::sleep(POLL_INTERVAL).await;
}

/// Whether nothing will be appended any more: the machine was removed, or has exited and is not started again.
pub(crate) fn has_ended(app: &App, id: &MachineId) -> bool {
    match app.engine().registry().read(id) {
        Some(found) => !found.supervised || found.record.phase() == Phase::Exited,
        None => true,
    }
}
