//! A snapshot's id.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 hexadecimal digits, by chance; the first 12 are enough for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

/// Not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no snapshot id (64 hexadecimal digits)")]
pub struct ParseSnapshotIdError(String);

impl SnapshotId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        Self(format!("{}{}", a.simple(), b.simple()))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what people see, and what the directory is called.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = ParseSnapshotIdError;

    fn try_from(text: String) -> Result<Self, ParseSnapshotIdError> {
        let valid = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text)) } else { Err(ParseSnapshotIdError(text)) }
    }
}
