//! Names of volumes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest file name: a volume's directory is named after it.
const MAX_LENGTH: usize = 255;

/// A name that podman accepts: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// The text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid name of a volume: it must start with a letter or digit, continue with letters, digits, \
     `_`, `.` and `-`, and have at most {MAX_LENGTH} characters"
)]
pub struct ParseVolumeNameError(String);

impl VolumeName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Generates a random name of 64 hexadecimal digits, as podman's.
    #[must_use]
    pub fn random() -> Self {
        let [a, b] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        Self(format!("{}{}", a.simple(), b.simple()))
    }
}

impl AsRef<Path> for VolumeName {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for VolumeName {
    type Err = ParseVolumeNameError;

    fn from_str(text: &str) -> Result<Self, ParseVolumeNameError> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if starts_well && text.bytes().all(is_valid) && text.len() <= MAX_LENGTH {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseVolumeNameError(text.to_owned()))
    }
}

impl TryFrom<String> for VolumeName {
    type Error = ParseVolumeNameError;

    fn try_from(text: String) -> Result<Self, ParseVolumeNameError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_podmans_rules() {
        for good in ["data", "0", "a.b_c-d", &"x".repeat(255)] {
            assert!(good.parse::<VolumeName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "ü", &"x".repeat(256)] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad}");
        }
        let random = VolumeName::random();
        assert_eq!(random.as_str().parse(), Ok(random.clone()));
        assert_eq!(random.as_str().len(), 64);
    }
}
