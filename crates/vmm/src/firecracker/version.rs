//! Firecracker's versions, and the features of each.

use std::fmt;
use std::str::FromStr;

/// A version. A suffix, as in `1.17.0-dev`, is ignored: a development version counts as the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Breaking changes.
    pub major: u32,
    /// New features.
    pub minor: u32,
    /// Fixes.
    pub patch: u32,
}

/// The oldest supported version: earlier ones do not tell a restored guest that its vsock connections were
/// closed.
pub const OLDEST: Version = Version::new(1, 10, 0);

impl Version {
    /// `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is no version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let none = || InvalidVersion(text.to_owned());
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u32> =
            numbers.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| none())?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(none()),
        }
    }
}

/// Features that some supported versions lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Another TAP device for the NIC of a restored machine.
    NetworkOverrides,
    /// `track_dirty_pages` as a field of a load, which was `enable_diff_snapshots` before.
    TrackOnLoad,
    /// A diff of a machine whose writes were not tracked.
    DiffUntracked,
    /// Metadata that is always served as plain text.
    ImdsCompat,
    /// Reports of free pages by the guest.
    FreePages,
    /// Another socket for the vsock device of a restored machine.
    VsockOverride,
    /// Advancing a restored guest's clock by the time since it was saved.
    ClockRealtime,
    /// A NIC that announces its MTU.
    Mtu,
    /// Transparent huge pages for guest memory.
    TransparentPages,
    /// Another page size for restored memory.
    PagesOnLoad,
    /// Metrics that name their machine.
    MetricsNames,
    /// A compressed kernel (bzImage).
    CompressedKernel,
}

impl Feature {
    /// The first version that has it, according to its changelog.
    #[must_use]
    pub const fn since(self) -> Version {
        let minor = match self {
            Self::NetworkOverrides => 12,
            Self::TrackOnLoad | Self::DiffUntracked | Self::ImdsCompat => 13,
            Self::FreePages => 14,
            Self::VsockOverride | Self::ClockRealtime | Self::Mtu => 16,
            Self::TransparentPages | Self::PagesOnLoad | Self::MetricsNames | Self::CompressedKernel => 17,
        };
        Version::new(1, minor, 0)
    }

    /// What a version without it cannot do.
    #[must_use]
    pub const fn operation(self) -> &'static str {
        match self {
            Self::NetworkOverrides => "restore a machine with another TAP device (network_overrides)",
            Self::TrackOnLoad => "take track_dirty_pages in a load",
            Self::DiffUntracked => "save a diff of a machine whose writes were not tracked",
            Self::ImdsCompat => "always serve metadata as plain text (imds_compat)",
            Self::FreePages => {
                "get reports of the guest's free pages (free_page_hinting, free_page_reporting)"
            }
            Self::VsockOverride => "restore a machine with another link socket (vsock_override)",
            Self::ClockRealtime => "advance a restored guest's clock (clock_realtime)",
            Self::Mtu => "announce a NIC's MTU to the guest (mtu)",
            Self::TransparentPages => "use transparent huge pages (huge_pages)",
            Self::PagesOnLoad => "restore memory with another page size (huge_pages)",
            Self::CompressedKernel => "boot a compressed kernel: an ELF vmlinux is needed",
            Self::MetricsNames => "name the machine in its metrics (emit_id, properties)",
        }
    }
}

/// Whether a version loses the guest link when a machine is paused and resumed without being saved in
/// between: data that the host sends never arrives.
#[must_use]
pub fn loses_link_when_paused(version: Version) -> bool {
    (version.major, version.minor) == (1, 16)
}

/// Whether a diff of a machine whose writes are tracked contains all written pages, at the right offsets.
///
/// Before 1.13.0 it lacks packets that arrive in buffers which Firecracker had taken before the last save.
/// 1.14.0 and 1.14.1 write pages to wrong offsets in machines with more than 3 GiB (fixed in 1.14.2,
/// firecracker PR 5705).
#[must_use]
pub fn diffs_are_exact(version: Version) -> bool {
    let is_misplaced = (version.major, version.minor) == (1, 14) && version.patch < 2;
    version >= Version::new(1, 13, 0) && !is_misplaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed() {
        assert_eq!("1.17.0-dev".parse(), Ok(Version::new(1, 17, 0)));
        assert_eq!("1.10.1".parse(), Ok(Version::new(1, 10, 1)));
        for text in ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.x.0", "1.2.-3"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn diffs_are_exact_since_1_13_but_for_two_versions() {
        let exact = |text: &str| diffs_are_exact(text.parse().expect("a version"));
        assert!(["1.13.0", "1.14.2", "1.15.0", "1.17.0-dev"].into_iter().all(exact));
        assert!(!["1.10.1", "1.12.1", "1.14.0", "1.14.1"].into_iter().any(exact));
    }

    #[test]
    fn versions_compare_numerically() {
        assert!(Version::new(1, 9, 1) < OLDEST);
        assert!(Version::new(1, 16, 0) > Version::new(1, 9, 9));
    }
}
