//! Names of bases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// As long as a machine's name may be.
const MAX_LENGTH: usize = 63;

/// The name of a base, which follows the rules of machines' names: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseName(String);

/// The text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid name of a base: it must start with a letter or digit, continue with letters, digits, `_`, \
     `.` and `-`, and have at most {MAX_LENGTH} characters"
)]
pub struct ParseBaseNameError(String);

impl BaseName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BaseName {
    type Err = ParseBaseNameError;

    fn from_str(text: &str) -> Result<Self, ParseBaseNameError> {
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let has_valid_characters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if starts_well && has_valid_characters && text.len() <= MAX_LENGTH {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseBaseNameError(text.to_owned()))
    }
}

impl TryFrom<String> for BaseName {
    type Error = ParseBaseNameError;

    fn try_from(text: String) -> Result<Self, ParseBaseNameError> {
        text.parse()
    }
}

impl From<BaseName> for String {
    fn from(name: BaseName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_machines() {
        for good in ["debian", "debian-12", "a.b_c", "0"] {
            assert!(good.parse::<BaseName>().is_ok(), "{good}");
        }
        for bad in ["", "-web", ".hidden", "a/b", "a b", "..", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<BaseName>().is_err(), "{bad}");
        }
    }
}
