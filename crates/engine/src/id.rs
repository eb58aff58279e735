//! Ids of machines and snapshots: 64 random hexadecimal digits.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// The number of digits of an id.
const DIGITS: usize = 64;
/// The number of digits that people see, and that name directories.
const SHORT_DIGITS: usize = 12;

/// A machine's id.
pub type MachineId = Id<MachineKind>;

/// A snapshot's id.
pub type SnapshotId = Id<SnapshotKind>;

/// 64 random hexadecimal digits; the first 12 are enough for people. `Kind` keeps ids of machines
/// and of snapshots apart at compile time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "Kind: IdKind")]
pub struct Id<Kind> {
    digits: String,
    kind: PhantomData<Kind>,
}

/// What an id identifies.
pub trait IdKind: Clone {
    /// The word that errors use for it.
    const NAME: &'static str;
}

/// The kind of [`MachineId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineKind {}

impl IdKind for MachineKind {
    const NAME: &'static str = "machine";
}

/// The kind of [`SnapshotId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SnapshotKind {}

impl IdKind for SnapshotKind {
    const NAME: &'static str = "snapshot";
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id (64 hexadecimal digits)")]
pub struct ParseIdError {
    text: String,
    kind: &'static str,
}

impl<Kind> Id<Kind> {
    /// Creates a new id from the operating system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        Self { digits: format!("{}{}", a.simple(), b.simple()), kind: PhantomData }
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.digits
    }

    /// The first 12 digits: what people see, and the directory's name.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.digits[..SHORT_DIGITS]
    }

    /// The last five bytes, for a MAC address.
    #[must_use]
    pub fn tail(&self) -> [u8; 5] {
        let digits = &self.digits.as_bytes()[DIGITS - 10..];
        std::array::from_fn(|n| nibble(digits[2 * n]) << 4 | nibble(digits[2 * n + 1]))
    }
}

fn nibble(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}

impl<Kind> fmt::Debug for Id<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Id").field(&self.digits).finish()
    }
}

impl<Kind> fmt::Display for Id<Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits)
    }
}

impl<Kind> From<Id<Kind>> for String {
    fn from(id: Id<Kind>) -> Self {
        id.digits
    }
}

impl<Kind: IdKind> TryFrom<String> for Id<Kind> {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        let valid = text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self { digits: text, kind: PhantomData })
        } else {
            Err(ParseIdError { text, kind: Kind::NAME })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixty_four_digits_and_differ() {
        let (a, b) = (MachineId::random(), MachineId::random());
        assert_ne!(a, b);
        assert_eq!(MachineId::try_from(a.to_string()), Ok(a.clone()));
        assert!(a.as_str().starts_with(a.short()));
        assert!(MachineId::try_from("../../etc".to_owned()).is_err());
    }

    #[test]
    fn an_error_names_the_kind_of_id() {
        let error = SnapshotId::try_from("web".to_owned()).expect_err("not an id");
        assert_eq!(error.to_string(), "\"web\" is not a snapshot id (64 hexadecimal digits)");
    }
}
