//! Why a machine did not do what it was asked.

use std::io;
use std::time::Duration;

use crate::control::{ConnectError, ControlError};
use crate::machine::{LookupError, MachineName, Refusal};

/// Why a machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Where it is in its life does not allow it.
    #[error("machine {name}: {refusal}: container state improper")]
    Refused {
        /// Its name.
        name: MachineName,
        /// Why.
        refusal: Refusal,
    },
    /// Its monitor cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its monitor did not do it.
    #[error(transparent)]
    Control(ControlError),
    /// Its monitor's process could not be sent a signal.
    #[error("cannot end the monitor of machine {name} (pid {pid})")]
    Signal {
        /// The machine's name.
        name: MachineName,
        /// The monitor.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It goes on in spite of all.
    #[error("machine {name} has not ended within {} s (its monitor is pid {pid})", .timeout.as_secs())]
    NotEnded {
        /// Its name.
        name: MachineName,
        /// The monitor.
        pid: u32,
        /// How long was waited.
        timeout: Duration,
    },
    /// It never came up, or somebody removed it.
    #[error("machine {name} is gone: it was removed, or did not come up")]
    Gone {
        /// Its name.
        name: MachineName,
    },
    /// A directory without a readable state, and somebody works on it.
    #[error("machine {id} has no readable state, and its monitor runs: end that first")]
    Unreadable {
        /// The directory's name.
        id: String,
    },
    /// Its directory cannot be removed.
    #[error("cannot remove machine {name}")]
    Remove {
        /// Its name, or its id.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machines cannot be read.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl From<ControlError> for ActError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused { name, refusal } => Self::Refused { name, refusal },
            other => Self::Control(other),
        }
    }
}
