//! Names of machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name. The name is also the guest's host name, which Linux limits to 64 bytes.
const MAX_LENGTH: usize = 63;

/// A name that podman accepts: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

/// The text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid name: it must start with a letter or digit, continue with letters, digits, `_`, `.` \
     and `-`, and have at most {MAX_LENGTH} characters"
)]
pub struct ParseNameError(String);

const ADJECTIVES: [&str; 32] = [
    "able", "amber", "brave", "bright", "calm", "clever", "crisp", "eager", "early", "fair", "fond", "frank",
    "gentle", "glad", "grand", "keen", "kind", "lively", "lucid", "merry", "mild", "neat", "noble", "prompt",
    "quick", "quiet", "sharp", "sound", "steady", "sunny", "swift", "warm",
];
const NOUNS: [&str; 32] = [
    "atlas", "badger", "beacon", "birch", "brook", "cedar", "comet", "copper", "crane", "delta", "ember",
    "falcon", "fjord", "garnet", "harbor", "heron", "indigo", "juniper", "kestrel", "lantern", "larch",
    "maple", "meadow", "otter", "pebble", "quartz", "raven", "sparrow", "thistle", "tundra", "willow",
    "wren",
];

impl MachineName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Generates a random name of two words and a number, out of more than a million.
    #[must_use]
    pub fn random() -> Self {
        let uuid = uuid::Uuid::new_v4();
        let bytes = uuid.as_bytes();
        let word = |words: &[&'static str; 32], byte: u8| words[byte as usize % 32];
        let number = u16::from_be_bytes([bytes[2], bytes[3]]) % 1000;
        Self(format!("{}_{}_{number}", word(&ADJECTIVES, bytes[0]), word(&NOUNS, bytes[1])))
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let has_valid_characters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if starts_well && has_valid_characters && text.len() <= MAX_LENGTH {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseNameError(text.to_owned()))
    }
}

impl TryFrom<String> for MachineName {
    type Error = ParseNameError;

    fn try_from(text: String) -> Result<Self, ParseNameError> {
        text.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_podmans_rules() {
        for good in ["web", "web-1", "a.b_c", "0"] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
        for bad in ["", "-web", "a/b", "a b", "..", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
        assert!(MachineName::random().as_str().parse::<MachineName>().is_ok());
    }
}
