//! Operations on an existing machine, in any state. Clients such as the command line call them; the machine's
//! supervisor carries them out.

mod clone;
mod edit;
mod end;
mod error;
mod exec;
pub mod files;
mod fork;
mod kill;
mod pause;
mod publish;
mod remove;
mod restart;
mod retry;
mod run;
mod snapshot;
mod snapshot_disk;
mod start;
mod stop;
mod volume;
pub mod volume_files;
mod wait;

pub use crate::supervisor_process::SpawnError;
pub use clone::{clone, clone_unless};
pub use edit::edit;
pub use error::ActError;
pub use exec::{CapturedOutput, ExecOutcome, ExecProcess, ExecRequest, exec};
pub use fork::{ForkError, ForkRequest, Forked, forget_fork, fork};
pub use kill::kill;
pub use pause::{pause, unpause};
pub use publish::{publish, unpublish};
pub use remove::{remove, remove_unreadable};
pub use restart::restart;
pub use retry::{RetryError, retry};
pub use run::{
    RunRequest, Starting, begin_create, begin_run, begin_run_with, create, run, start_reserved, start_unless,
};
pub use snapshot::{snapshot, snapshot_as};
pub use start::start;
pub use stop::{StopOptions, stop};
pub use volume::{remove_volume, volume_users};
pub use wait::{wait, wait_until_finished};

use crate::Engine;
use crate::control::{ConnectError, ControlClient, ControlError, ControlRequest};
use crate::machine::Found;

/// Sends the supervisor a request. Returns `false` if the supervisor is not reachable yet or has ended.
async fn send_request(engine: &Engine, machine: &Found, request: &ControlRequest) -> Result<bool, ActError> {
    let client = match ControlClient::connect(engine.home(), machine).await {
        Ok(client) => client,
        Err(ConnectError::NotRunning { .. } | ConnectError::Hello { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match client.request(request).await {
        Ok(()) => Ok(true),
        Err(ControlError::Link { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
