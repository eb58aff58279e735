//! Converts errors to the failures that are sent to the host.

use std::error::Error;

use mimeo_agent_protocol::message::{Failure, FailureKind};

/// A failed action and its I/O error.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(crate) struct SystemError {
    action: String,
    #[source]
    source: std::io::Error,
}

/// Adds the action to an error, for messages of the form "cannot {action}: {error}".
pub(crate) trait Context<T> {
    fn context(self, action: impl Into<String>) -> Result<T, SystemError>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl Into<String>) -> Result<T, SystemError> {
        self.map_err(|source| SystemError { action: action.into(), source: source.into() })
    }
}

impl From<SystemError> for Failure {
    fn from(error: SystemError) -> Self {
        let kind = match error.source.kind() {
            std::io::ErrorKind::NotFound => FailureKind::NotFound,
            // The process, most often the container's own, has ended meanwhile.
            _ if error.source.raw_os_error() == Some(libc::ESRCH) => FailureKind::WrongState,
            _ => FailureKind::System,
        };
        Self { kind, message: chain(&error) }
    }
}

impl SystemError {
    pub(crate) fn new(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { action: action.into(), source: source.into() }
    }
}

/// A failure of `kind`.
pub(crate) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

/// The failure when the machine's state does not allow the request.
pub(crate) fn wrong_state(message: &str) -> Failure {
    failure(FailureKind::WrongState, message)
}

/// An error and all of its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// The C library's text for an error number.
pub(crate) fn errno_text(errno: i32) -> String {
    nix::errno::Errno::from_raw(errno).desc().to_owned()
}
