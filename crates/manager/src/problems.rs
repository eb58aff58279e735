//! Errors of the engine as problems with stable codes.

use mimeo_engine::act::{ActError, ForkError, SpawnError};
use mimeo_engine::boot_snapshot::BootSnapshotError;
use mimeo_engine::cause::chain;
use mimeo_engine::control::{ConnectError, ControlError};
use mimeo_engine::launch_request::StartFailureKind;
use mimeo_engine::machine::{ClaimError, MachineName, Refusal};
use mimeo_engine::snapshot::StoreError;
use mimeo_engine::volumes::VolumeError;
use mimeo_image::RemoveError;
use mimeo_manager_api::{Failure, Problem};

use crate::convert::ConvertError;

/// The name of an enum's variant, as in JSON.
pub(crate) fn name_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
}

/// A fault of the manager: what a task said when it panicked.
pub(crate) fn unexpected(panic: &(dyn std::any::Any + Send)) -> Problem {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    let detail = format!("the manager failed unexpectedly: {}", message.unwrap_or("no message"));
    Problem::new(500, "internal", detail).with_hint("the manager's log says where; please report it")
}

/// A request with a value that cannot be used.
pub(crate) fn invalid_field(error: &ConvertError) -> Problem {
    Problem::new(422, "invalid-field", chain(error))
}

/// The status and the code of a failed start.
fn start_code(kind: StartFailureKind) -> (u16, &'static str) {
    match kind {
        StartFailureKind::Invalid => (422, "invalid-request"),
        StartFailureKind::NameTaken => (409, "name-taken"),
        StartFailureKind::IdTaken => (409, "id-taken"),
        StartFailureKind::Supervised => (409, "started-by-another-client"),
        StartFailureKind::ImageNotFound => (422, "image-not-found"),
        StartFailureKind::ImageUnauthorized => (422, "image-unauthorized"),
        StartFailureKind::RegistryUnreachable => (502, "registry-unreachable"),
        StartFailureKind::ImageUnusable => (422, "image-unusable"),
        StartFailureKind::SnapshotUnusable => (422, "snapshot-unusable"),
        StartFailureKind::InsufficientMemory => (503, "insufficient-memory"),
        StartFailureKind::NoSpace => (507, "no-space"),
        StartFailureKind::PortInUse => (409, "port-in-use"),
        StartFailureKind::VolumeInUse => (409, "volume-in-use"),
        StartFailureKind::NoAddress => (503, "no-address"),
        StartFailureKind::Unsupported => (501, "unsupported"),
        StartFailureKind::GuestSilent => (504, "guest-silent"),
        StartFailureKind::CommandNotFound => (422, "command-not-found"),
        StartFailureKind::CommandNotExecutable => (422, "command-not-executable"),
        StartFailureKind::UnknownUser => (422, "unknown-user"),
        StartFailureKind::GuestRefused => (500, "guest-refused"),
        StartFailureKind::Cancelled => (409, "cancelled"),
        StartFailureKind::SupervisorGone => (500, "supervisor-gone"),
        StartFailureKind::Other => (500, "start-failed"),
    }
}

/// A machine that was not started.
pub(crate) fn start_problem(error: &SpawnError) -> Problem {
    let (status, code) = start_code(error.kind());
    Problem::new(status, code, chain(error))
}

/// What a machine's item says about its failed start.
pub(crate) fn start_failure(error: &SpawnError) -> Failure {
    let (_, code) = start_code(error.kind());
    let (stage, console) = match error {
        SpawnError::Failed(failure) => (failure.stage.clone(), failure.console.clone()),
        _ => (None, Vec::new()),
    };
    Failure { stage, code: code.to_owned(), message: chain(error), console }
}

/// An act on a machine that failed.
pub(crate) fn act_problem(error: &ActError) -> Problem {
    match error {
        ActError::Refused { refusal, .. } => refused(*refusal, chain(error)),
        ActError::Control(error) => control_problem(error),
        ActError::Connect(error) => connect_problem(error),
        ActError::Start { source, .. } => Problem { detail: chain(error), ..start_problem(source) },
        ActError::Claim(ClaimError::NameTaken { .. }) => Problem::new(409, "name-taken", chain(error)),
        ActError::Gone { .. } => Problem::new(410, "machine-deleted", chain(error)),
        ActError::FilesInUse { .. } => Problem::new(409, "files-in-use", chain(error)),
        ActError::NotEnded { .. } | ActError::NotStarted { .. } => {
            Problem::new(504, "supervisor-slow", chain(error))
        }
        ActError::Volume(error) => volume_problem(error),
        _ => Problem::new(500, "machine-failed", chain(error)),
    }
}

/// A machine whose supervisor cannot be reached.
pub(crate) fn connect_problem(error: &ConnectError) -> Problem {
    match error {
        ConnectError::NotRunning { .. } => Problem::new(409, "machine-not-running", chain(error)),
        ConnectError::Silent { .. } => Problem::new(504, "supervisor-silent", chain(error)),
        ConnectError::Socket { .. } | ConnectError::Hello { .. } => {
            Problem::new(502, "supervisor-unreachable", chain(error))
        }
    }
}

/// A request that the supervisor or the guest refused.
pub(crate) fn control_problem(error: &ControlError) -> Problem {
    use mimeo_agent_protocol::link::LinkError;
    use mimeo_agent_protocol::message::FailureKind;
    match error {
        ControlError::Refused { refusal, .. } => refused(*refusal, chain(error)),
        ControlError::Failed { .. } => Problem::new(500, "machine-failed", chain(error)),
        ControlError::Port { kind, .. } => {
            let (status, code) = start_code(*kind);
            Problem::new(status, code, chain(error))
        }
        // The supervisor has ended, and its machine.
        ControlError::Link { source: LinkError::Closed, .. } => {
            Problem::new(409, "connection-lost", chain(error)).with_hint("the machine has exited meanwhile")
        }
        ControlError::Link { .. } => Problem::new(502, "connection-lost", chain(error)),
        ControlError::Guest { failure, .. } => {
            let (status, code) = match failure.kind {
                FailureKind::CommandNotFound => (422, "command-not-found"),
                FailureKind::CommandNotExecutable => (422, "command-not-executable"),
                FailureKind::UnknownUser => (422, "unknown-user"),
                FailureKind::NotFound => (404, "path-not-found"),
                FailureKind::WrongState => (409, "wrong-state"),
                FailureKind::Invalid => (422, "invalid-request"),
                FailureKind::NotADirectory => (409, "not-a-directory"),
                FailureKind::IsADirectory => (409, "is-a-directory"),
                FailureKind::Exists => (409, "path-exists"),
                FailureKind::NotEmpty => (409, "directory-not-empty"),
                FailureKind::Forbidden => (403, "path-forbidden"),
                FailureKind::Busy => (409, "path-in-use"),
                FailureKind::NoSpace => (507, "guest-disk-full"),
                FailureKind::System | FailureKind::Unknown => (500, "guest-failed"),
            };
            Problem::new(status, code, chain(error))
        }
    }
}

/// A request that the machine's state does not allow.
pub(crate) fn refusal_problem(name: &MachineName, refusal: Refusal) -> Problem {
    refused(refusal, format!("machine {name}: {refusal}"))
}

fn refused(refusal: Refusal, detail: String) -> Problem {
    let code = match refusal {
        Refusal::NotYet => "machine-creating",
        Refusal::Paused => "machine-paused",
        Refusal::DiskError => "disk-error",
        Refusal::NotPaused => "machine-not-paused",
        Refusal::Stopping => "machine-stopping",
        Refusal::Restarting => "machine-restarting",
        Refusal::NotRunning => "machine-not-running",
        Refusal::Resize | Refusal::Running => "machine-running",
    };
    Problem::new(409, code, detail)
}

/// A fork that failed: there are no clones.
pub(crate) fn fork_problem(error: &ForkError) -> Problem {
    match error {
        ForkError::Act(error) => act_problem(error),
        ForkError::Clone { source, .. } => Problem { detail: chain(error), ..start_problem(source) },
        ForkError::KeyOfOtherMachine { .. } | ForkError::KeyOfOtherRequest { .. } => {
            Problem::new(409, "key-of-other-fork", chain(error))
        }
        ForkError::Decide { .. } => Problem::new(500, "fork-failed", chain(error)),
    }
}

/// A pull that failed.
pub(crate) fn pull_problem(error: &mimeo_image::PullError) -> Problem {
    let (status, code) = match mimeo_engine::pull_failure_kind(error) {
        StartFailureKind::Other => (500, "pull-failed"),
        kind => start_code(kind),
    };
    Problem::new(status, code, chain(error))
}

/// A boot snapshot that could not be made.
pub(crate) fn boot_problem(error: &BootSnapshotError) -> Problem {
    let (status, code) = match error.kind() {
        StartFailureKind::Other => (500, "boot-failed"),
        kind => start_code(kind),
    };
    Problem::new(status, code, chain(error))
}

/// A snapshot that could not be removed or listed.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::InUse { .. } => Problem::new(409, "snapshot-in-use", chain(error)),
        StoreError::TagTaken { .. } => Problem::new(409, "tag-taken", chain(error)),
        StoreError::MissingParent { .. } => Problem::new(409, "parent-missing", chain(error)),
        _ => Problem::new(500, "snapshot-failed", chain(error)),
    }
}

/// A volume that could not be created, read or removed.
pub(crate) fn volume_problem(error: &VolumeError) -> Problem {
    match error {
        VolumeError::Exists { .. } => Problem::new(409, "volume-exists", chain(error)),
        VolumeError::NotFound { .. } => Problem::new(404, "not-found", chain(error)),
        VolumeError::Several { .. } => Problem::new(409, "ambiguous-id", chain(error)),
        VolumeError::InUse { .. } => Problem::new(409, "volume-in-use", chain(error)),
        VolumeError::Size { .. } => Problem::new(422, "invalid-field", chain(error)),
        _ => Problem::new(500, "volume-failed", chain(error)),
    }
}

/// An image that could not be removed.
pub(crate) fn image_removal_problem(error: &RemoveError) -> Problem {
    match error {
        RemoveError::NotFound { .. } => Problem::new(404, "not-found", chain(error)),
        RemoveError::InUse { .. } => Problem::new(409, "image-in-use", chain(error)),
        RemoveError::SeveralNames { .. } => Problem::new(409, "image-has-several-names", chain(error))
            .with_hint("remove it by each of its names, or use `force`"),
        RemoveError::Find(mimeo_image::FindError::Ambiguous { .. }) => {
            Problem::new(409, "ambiguous-id", chain(error)).with_hint("give the full name, or more digits")
        }
        _ => Problem::new(500, "store-failed", chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_the_panic_said() {
        let panic = std::panic::catch_unwind(|| panic!("no row {}", 7)).expect_err("it panics");
        let problem = unexpected(&*panic);
        assert_eq!((problem.status, &*problem.code), (500, "internal"));
        assert!(problem.detail.ends_with("no row 7"), "{problem}");
    }
}
