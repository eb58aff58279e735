//! Linux capabilities, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kernel's names, in the order of their numbers.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit n is capability number n. Serialised as a list of names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<&'static str>")]
pub struct Capabilities(u64);

/// The text is not the name of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a capability")]
pub struct UnknownCapability(String);

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// Every capability.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The capability of this name, in any case, with or without `CAP_`; `ALL` is every one.
    ///
    /// # Errors
    /// If there is no such capability.
    pub fn parse(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::ALL);
        }
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|name| name.strip_prefix("CAP_") == Some(bare));
        number.map(|number| Self(1 << number)).ok_or_else(|| UnknownCapability(text.to_owned()))
    }

    /// The set as the kernel's mask.
    #[must_use]
    pub fn mask(self) -> u64 {
        self.0
    }

    /// The capabilities of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The capabilities of this set that the other does not have.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The capabilities of both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, sorted, as podman lists them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<_> = NAMES
            .iter()
            .enumerate()
            .filter(|(number, _)| self.0 & (1 << number) != 0)
            .map(|(_, name)| *name)
            .collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

impl From<Capabilities> for Vec<&'static str> {
    fn from(set: Capabilities) -> Self {
        set.names()
    }
}

impl TryFrom<Vec<String>> for Capabilities {
    type Error = UnknownCapability;

    fn try_from(names: Vec<String>) -> Result<Self, UnknownCapability> {
        names.iter().try_fold(Self::NONE, |set, name| Ok(set.union(Self::parse(name)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_as_podmans() {
        for text in ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(Capabilities::parse(text).map(Capabilities::mask), Ok(1 << 12), "{text}");
        }
        assert_eq!(Capabilities::parse("all"), Ok(Capabilities::ALL));
        for bad in ["", "CAP_", "NET", "12", "CAP_ALL"] {
            assert!(Capabilities::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_is_a_list_of_names() {
        let set = Capabilities::parse("kill").and_then(|kill| Ok(kill.union(Capabilities::parse("chown")?)));
        let json = serde_json::to_string(&set.expect("known names")).expect("JSON");
        assert_eq!(json, r#"["CAP_CHOWN","CAP_KILL"]"#);
        assert_eq!(serde_json::from_str::<Capabilities>(&json).ok(), set_of("KILL", "CHOWN"));
        assert!(serde_json::from_str::<Capabilities>(r#"["CAP_NONE"]"#).is_err());
    }

    fn set_of(one: &str, other: &str) -> Option<Capabilities> {
        Some(Capabilities::parse(one).ok()?.union(Capabilities::parse(other).ok()?))
    }
}
