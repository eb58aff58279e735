//! Why no machine was found.

use mimeo_engine::FindError;

use crate::error::CliError;

/// Why no machine was found.
#[derive(Debug)]
pub(crate) enum FindFailure {
    /// None matches, or several do.
    Find(FindError),
    /// The machines cannot be looked up.
    Other(CliError),
}

impl FindFailure {
    /// Whether there is no such machine.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Find(FindError::None(_)))
    }
}

impl From<FindError> for FindFailure {
    fn from(error: FindError) -> Self {
        Self::Find(error)
    }
}

impl From<FindFailure> for CliError {
    fn from(failure: FindFailure) -> Self {
        match failure {
            FindFailure::Find(error) => error.into(),
            FindFailure::Other(error) => error,
        }
    }
}
