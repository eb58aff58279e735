//! A value of a request that cannot be used.

use std::fmt::Display;

/// A value of a request cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {field}: {message}")]
pub struct ConvertError {
    /// The field, such as `ports[0].host_port`.
    pub field: String,
    /// The reason.
    pub message: String,
}

impl ConvertError {
    /// A value that cannot be used for the reason that `message` gives.
    pub(crate) fn new(field: impl Into<String>, message: impl Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

/// The result of a conversion.
pub(super) type Converted<T> = Result<T, ConvertError>;

/// Names the field of an error.
pub(super) trait InField<T> {
    /// The value, or an error that names the field.
    fn in_field(self, field: impl Into<String>) -> Converted<T>;
}

impl<T, E: Display> InField<T> for Result<T, E> {
    fn in_field(self, field: impl Into<String>) -> Converted<T> {
        self.map_err(|error| ConvertError::new(field, error))
    }
}
