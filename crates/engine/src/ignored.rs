//! Results that are ignored on purpose, logged so that they are not lost.

use std::fmt::Display;
use std::io;
use std::path::Path;

/// Logs a failed operation on a file that the caller goes on without.
pub(crate) trait LogIgnored {
    /// Logs it at debug: a later sweep tries again, or nothing depends on it. A file that does not exist is no failure.
    fn log_ignored(self, step: &str, path: impl AsRef<Path>);

    /// Logs a failed removal at warn: this was the sweep. A file that does not exist is no failure.
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

/// Logs a failure that a person should see, though the caller goes on.
pub(crate) trait LogFailure {
    /// Logs the failure at warn as "cannot {step}".
    fn log_failure(self, component: &str, step: &str);
}

impl<T, E: Display> LogFailure for Result<T, E> {
    fn log_failure(self, component: &str, step: &str) {
        if let Err(error) = self {
            tracing::warn!(component, %error, "cannot {step}");
        }
    }
}
