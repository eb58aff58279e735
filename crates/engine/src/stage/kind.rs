//! The kind of a failed start, for programs: derived from the errors' types, never from their texts.

use std::error::Error;
use std::io;

use mimeo_agent_protocol::CallError;
use mimeo_agent_protocol::message::FailureKind;
use mimeo_image::{DownloadError, PullError, RegistryError};
use mimeo_vmm::LaunchError;

use super::{PortProblem, StageError, StartError};
use crate::launch_request::StartFailureKind as Kind;
use crate::machine::ClaimError;

impl StartError {
    /// Returns what kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.source.kind()
    }
}

impl StageError {
    /// Returns what kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        or_kind_of_io(self.specific_kind(), self)
    }

    fn specific_kind(&self) -> Kind {
        match self {
            Self::Claim(error) => kind_of_claim(error),
            Self::ImageMissing { .. } | Self::ImageRemoved { .. } => Kind::ImageNotFound,
            Self::ImagePull(error) => kind_of_pull(error),
            Self::ImageImport(_) => Kind::ImageUnusable,
            Self::Port { reason: PortProblem::InUse, .. } => Kind::PortInUse,
            Self::VolumeInUse { .. } => Kind::VolumeInUse,
            Self::Subnets(_) => Kind::NoAddress,
            Self::NeedsKvm { .. } | Self::NoUserNetwork { .. } | Self::Kvm { .. } => Kind::Unsupported,
            Self::Kernel(_) | Self::Bridged(_) => Kind::Unsupported,
            Self::Launch(error) => kind_of_launch(error),
            Self::SnapshotLoad(_) | Self::SnapshotStore(_) | Self::ContainerEnded => Kind::SnapshotUnusable,
            Self::Silent { .. } | Self::SilentRestore { .. } | Self::SilentWarmUp { .. } => Kind::GuestSilent,
            Self::WarmUpProgramRuns { .. } | Self::Died { .. } => Kind::GuestSilent,
            Self::Guest(error) | Self::MountVolume { source: error, .. } => kind_of_call(error),
            Self::Identity { .. } => Kind::GuestRefused,
            other if other.is_invalid_request() => Kind::Invalid,
            _ => Kind::Other,
        }
    }

    /// Whether the request itself is the reason.
    fn is_invalid_request(&self) -> bool {
        matches!(
            self,
            Self::NoHealthCheck { .. }
                | Self::UnknownDriver { .. }
                | Self::OutOfRange { .. }
                | Self::MemoryExceedsHost { .. }
                | Self::VolumeMissing { .. }
                | Self::DuplicateVolumeTarget { .. }
                | Self::TimeZone(_)
                | Self::WorkingDirectory { .. }
                | Self::TmpfsOverlapsVolume { .. }
                | Self::ImageStopSignal { .. }
                | Self::VolumeTarget { .. }
                | Self::ImageSource(_)
                | Self::ImageFind(_)
                | Self::NoCommand
                | Self::Port { .. }
                | Self::TooManyVolumes { .. }
                | Self::VolumeLayers { .. }
        )
    }
}

fn kind_of_claim(error: &ClaimError) -> Kind {
    match error {
        ClaimError::NameTaken { .. } => Kind::NameTaken,
        ClaimError::IdTaken { .. } => Kind::IdTaken,
        ClaimError::Supervised { .. } | ClaimError::Unswept { .. } => Kind::Supervised,
        ClaimError::Temporary { .. } => Kind::Invalid,
        ClaimError::Subnets(_) => Kind::NoAddress,
        ClaimError::Lookup(_) | ClaimError::Record(_) | ClaimError::Io(_) => Kind::Other,
    }
}

/// Returns what kind of failure a failed pull is.
#[must_use]
pub fn pull_failure_kind(error: &PullError) -> Kind {
    or_kind_of_io(kind_of_pull(error), error)
}

/// The kind, unless an error of the operating system among the causes says more.
fn or_kind_of_io(kind: Kind, error: &(dyn Error + 'static)) -> Kind {
    match kind {
        Kind::Other => kind_of_io(error),
        // A disk of the host may be full at each of these.
        Kind::ImageUnusable | Kind::SnapshotUnusable | Kind::RegistryUnreachable => match kind_of_io(error) {
            Kind::Other => kind,
            kind => kind,
        },
        kind => kind,
    }
}

fn kind_of_pull(error: &PullError) -> Kind {
    match error {
        PullError::Registry { source, .. } => kind_of_registry(source),
        PullError::Download { source: DownloadError::Registry { source, .. }, .. } => {
            kind_of_registry(source)
        }
        PullError::Credentials(_) => Kind::ImageUnauthorized,
        PullError::Local { .. } if is_missing_file(error) => Kind::ImageNotFound,
        PullError::Local { .. } | PullError::Document { .. } | PullError::Build { .. } => Kind::ImageUnusable,
        _ => Kind::Other,
    }
}

fn kind_of_registry(error: &RegistryError) -> Kind {
    match error {
        RegistryError::NotFound(_) => Kind::ImageNotFound,
        RegistryError::Refused(_) => Kind::ImageUnauthorized,
        RegistryError::WrongDigest { .. }
        | RegistryError::WrongSize { .. }
        | RegistryError::DocumentTooLarge { .. } => Kind::ImageUnusable,
        RegistryError::Unreachable(_) | RegistryError::Failed(_) | RegistryError::Interrupted { .. } => {
            Kind::RegistryUnreachable
        }
        _ => Kind::Other,
    }
}

fn kind_of_launch(error: &LaunchError) -> Kind {
    match error {
        LaunchError::NotInstalled { .. } | LaunchError::NoJailer { .. } | LaunchError::Unsupported { .. } => {
            Kind::Unsupported
        }
        LaunchError::Guest { .. } | LaunchError::Ended { .. } => Kind::GuestSilent,
        LaunchError::Spawn { .. } | LaunchError::Prepare { .. } | LaunchError::Operation(_) => Kind::Other,
    }
}

fn kind_of_call(error: &CallError) -> Kind {
    let CallError::Failed(failure) = error else { return Kind::GuestSilent };
    match failure.kind {
        FailureKind::CommandNotFound => Kind::CommandNotFound,
        FailureKind::CommandNotExecutable => Kind::CommandNotExecutable,
        FailureKind::UnknownUser => Kind::UnknownUser,
        _ => Kind::GuestRefused,
    }
}

/// The kind that follows from the first error of the operating system among the causes.
fn kind_of_io(error: &(dyn Error + 'static)) -> Kind {
    match io_kind(error) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Kind::NoSpace,
        Some(io::ErrorKind::OutOfMemory) => Kind::InsufficientMemory,
        _ => Kind::Other,
    }
}

fn is_missing_file(error: &(dyn Error + 'static)) -> bool {
    io_kind(error) == Some(io::ErrorKind::NotFound)
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::message::Failure;

    use super::*;
    use crate::io_error::IoContext as _;

    fn full<T>() -> Result<T, io::Error> {
        // ENOSPC
        Err(io::Error::from_raw_os_error(28))
    }

    #[test]
    fn a_full_disk_is_recognized_wherever_it_shows() {
        let file = full::<()>().at("write", "/home/disk-0").expect_err("full");
        assert_eq!(StageError::from(file).kind(), Kind::NoSpace);
        let file = full::<()>().at("write", "/home/machine.json").expect_err("full");
        assert_eq!(StageError::from(ClaimError::from(file)).kind(), Kind::NoSpace);
        let file = full::<()>().at("read", "/home/manifest.json").expect_err("full");
        assert_eq!(StageError::from(crate::snapshot::LoadError::from(file)).kind(), Kind::NoSpace);
        let other = Err::<(), _>(io::Error::from_raw_os_error(5)).at("read", "/home").expect_err("broken");
        assert_eq!(StageError::from(other).kind(), Kind::Other);
    }

    #[test]
    fn kinds_follow_the_types() {
        let failed = |kind| StageError::Guest(CallError::Failed(Failure { kind, message: "no".to_owned() }));
        for (error, kind) in [
            (StageError::NoCommand, Kind::Invalid),
            (StageError::ImageMissing { image: "x".to_owned() }, Kind::ImageNotFound),
            (StageError::Died { how: "killed".to_owned() }, Kind::GuestSilent),
            (failed(FailureKind::CommandNotFound), Kind::CommandNotFound),
            (failed(FailureKind::System), Kind::GuestRefused),
            (ClaimError::IdTaken { id: "0123".to_owned() }.into(), Kind::IdTaken),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
