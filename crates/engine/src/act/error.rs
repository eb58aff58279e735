//! Why an operation on a machine failed.

use std::io;
use std::time::Duration;

use crate::control::{ConnectError, ControlError};
use crate::machine::{ClaimError, LookupError, MachineName, Refusal};
use crate::stage::{StageError, StartError};
use crate::supervisor_process::SpawnError;
use crate::volumes::{VolumeError, VolumeName};

/// Why an operation on a machine failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The machine's state does not allow the operation.
    // The end of the text is podman's: scripts look for it.
    #[error("machine {name}: {refusal}: container state improper")]
    Refused {
        /// Its name.
        name: MachineName,
        /// Why.
        refusal: Refusal,
    },
    /// The supervisor cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The supervisor did not carry out the request.
    #[error(transparent)]
    Control(ControlError),
    /// The supervisor's process could not be signalled.
    #[error("cannot signal the supervisor of machine {name} (pid {pid})")]
    Signal {
        /// The machine's name.
        name: MachineName,
        /// The supervisor's PID.
        pid: u32,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The machine did not end in time.
    #[error("machine {name} has not ended within {} s (supervisor: pid {pid})", .timeout.as_secs())]
    NotEnded {
        /// Its name.
        name: MachineName,
        /// The supervisor's PID.
        pid: u32,
        /// How long the caller waited.
        timeout: Duration,
    },
    /// The machine was removed, or its creation failed.
    #[error("machine {name} no longer exists: it was removed, or its creation failed")]
    Gone {
        /// Its name.
        name: MachineName,
    },
    /// The machine's record is unreadable, and its supervisor runs.
    #[error("machine {id} has no readable record, and its supervisor runs: end the supervisor first")]
    Unreadable {
        /// The directory's name.
        id: String,
    },
    /// The machine's directory cannot be removed.
    #[error("cannot remove machine {name}")]
    Remove {
        /// Its name, or its id.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No guest could be started for the machine's disk.
    #[error("cannot open the files of machine {name}")]
    OpenFiles {
        /// Its name.
        name: MachineName,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// No snapshot of the machine's disk could be taken.
    #[error("cannot take a snapshot of the disk of machine {name}")]
    SnapshotDisk {
        /// Its name.
        name: MachineName,
        /// Why.
        #[source]
        source: Box<StageError>,
    },
    /// The guest that wrote to the machine's disk did not power off.
    #[error("cannot flush the disk of machine {name}, so what was written may be lost: {reason}")]
    NotFlushed {
        /// Its name.
        name: MachineName,
        /// Why.
        reason: String,
    },
    /// Another process starts the machine, and has not finished.
    #[error("machine {name} has not started within {} s, by another process", .timeout.as_secs())]
    NotStarted {
        /// Its name.
        name: MachineName,
        /// How long the caller waited.
        timeout: Duration,
    },
    /// Another command uses the machine's disk, and has not finished.
    #[error(
        "cannot use the disk of machine {name}: another command (pid {pid}) has not finished with it within {} s",
        .timeout.as_secs()
    )]
    FilesInUse {
        /// Its name.
        name: MachineName,
        /// The command's PID.
        pid: u32,
        /// How long the caller waited.
        timeout: Duration,
    },
    /// No guest could be started for a volume.
    #[error("cannot open the files of volume {name}")]
    OpenVolume {
        /// Its name.
        name: VolumeName,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// A volume cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The machine's record cannot be changed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The machine does not start.
    #[error("cannot start machine {name}")]
    Start {
        /// Its name.
        name: MachineName,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// The machines cannot be listed.
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
