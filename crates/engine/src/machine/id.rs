//! A machine's id.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 hexadecimal digits, by chance; the first 12 are enough for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

/// Not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no machine id (64 hexadecimal digits)")]
pub struct ParseIdError(String);

impl MachineId {
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

    /// The first 12 digits: what people see, and what the machine's directory is called.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Five bytes of the id, for a hardware address.
    #[must_use]
    pub fn tail(&self) -> [u8; 5] {
        let digits = &self.0.as_bytes()[54..];
        std::array::from_fn(|n| hex(digits[2 * n]) << 4 | hex(digits[2 * n + 1]))
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or_default() as u8
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl TryFrom<String> for MachineId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        let valid = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text)) } else { Err(ParseIdError(text)) }
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
}
