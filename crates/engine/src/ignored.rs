//! Logs results that callers ignore on purpose.

use std::error::Error;
use std::io;
use std::path::Path;

use crate::cause::chain;

/// Logs a failed file operation that the caller does not depend on.
pub(crate) trait LogIgnored {
    /// Logs the failure at debug: a later sweep tries again, or nothing depends on it. A missing file is no
    /// failure.
    fn log_ignored(self, step: &str, path: impl AsRef<Path>);

    /// Logs a failed removal of a sweep at warn. A missing file is no failure.
    fn log_leftover(self, path: impl AsRef<Path>);
}

impl<T> LogIgnored for io::Result<T> {
    fn log_ignored(self, step: &str, path: impl AsRef<Path>) {
        if let Some(error) = failure(self) {
            tracing::debug!(path = %path.as_ref().display(), %error, "cannot {step}");
        }
    }

    fn log_leftover(self, path: impl AsRef<Path>) {
        if let Some(error) = failure(self) {
            tracing::warn!(component = "sweep", path = %path.as_ref().display(), %error, "cannot remove a leftover");
        }
    }
}

fn failure<T>(result: io::Result<T>) -> Option<io::Error> {
    result.err().filter(|error| error.kind() != io::ErrorKind::NotFound)
}

/// Logs a failure that the user should see, although the caller continues.
pub(crate) trait LogFailure {
    /// Logs the failure and its causes at warn as "cannot {step}".
    fn log_failure(self, component: &str, step: &str);
}

impl<T, E: Error> LogFailure for Result<T, E> {
    fn log_failure(self, component: &str, step: &str) {
        if let Err(error) = self {
            tracing::warn!(component, error = chain(&error), "cannot {step}");
        }
    }
}
