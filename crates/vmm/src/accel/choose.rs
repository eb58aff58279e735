//! Chooses the accelerator, from the user's request and what is known of the host.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{cache, probe};
use crate::Accelerator;

/// The accelerator that the user requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM unless it is known not to run our guests, otherwise TCG.
    #[default]
    Auto,
    /// KVM, even if it is known to fail.
    Kvm,
    /// TCG, without probing KVM.
    Tcg,
}

/// What is known of KVM for one kind of guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Such a guest has booted and its agent has answered since the host's boot.
    Proved,
    /// `/dev/kvm` creates VMs, but no such guest has been tried.
    Untried,
    /// KVM cannot run such guests.
    Unusable(Unusable),
}

/// The chosen accelerator, and what is known of KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator to use.
    pub accelerator: Accelerator,
    /// What is known of KVM.
    pub verdict: Verdict,
}

/// Why KVM is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Unusable {
    /// The user requested TCG.
    EmulationRequested,
    /// There is no `/dev/kvm`.
    NoDevice,
    /// The user may not open `/dev/kvm`.
    PermissionDenied,
    /// `/dev/kvm` cannot be opened for another reason.
    CannotOpen {
        /// The error of the system.
        error: String,
    },
    /// KVM refused a step before the first instruction.
    Refused {
        /// The step.
        step: String,
        /// The error of KVM.
        error: String,
    },
    /// One of our guests did not boot on it.
    GuestFailed {
        /// How it failed.
        how: String,
    },
}

/// An unknown accelerator name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an accelerator: auto, kvm or tcg")]
pub struct UnknownAccel(String);

/// Chooses the accelerator for a guest. `guest` names its kind (driver, kernel, agent); a verdict applies to
/// one kind only. Verdicts are recorded in `run_dir` (`MIMEO_RUN`) by [`super::record`], and are valid until
/// the host reboots, or the device or the user's groups change. Takes a few milliseconds at most.
#[must_use]
pub fn choose(accel: Accel, guest: &str, run_dir: &Path) -> Choice {
    let verdict = match accel {
        Accel::Tcg => Verdict::Unusable(Unusable::EmulationRequested),
        Accel::Auto | Accel::Kvm => verdict(guest, run_dir),
    };
    let is_kvm = accel == Accel::Kvm || !matches!(verdict, Verdict::Unusable(_));
    Choice { accelerator: if is_kvm { Accelerator::Kvm } else { Accelerator::Tcg }, verdict }
}

/// What is known of KVM for any kind of guest: proved if one has booted.
#[must_use]
pub fn summary(run_dir: &Path) -> Verdict {
    let mut outcomes = cache::read_all_verdicts(run_dir);
    if outcomes.iter().any(Result::is_ok) {
        return Verdict::Proved;
    }
    match outcomes.pop() {
        Some(Err(reason)) => Verdict::Unusable(reason),
        _ => probe::probe().map_or_else(Verdict::Unusable, |()| Verdict::Untried),
    }
}

fn verdict(guest: &str, run_dir: &Path) -> Verdict {
    match cache::read_verdict(run_dir, guest) {
        Some(Ok(())) => Verdict::Proved,
        Some(Err(reason)) => Verdict::Unusable(reason),
        None => probe::probe().map_or_else(Verdict::Unusable, |()| Verdict::Untried),
    }
}

impl Unusable {
    pub(super) fn from_open(errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Self::NoDevice,
            libc::EACCES | libc::EPERM => Self::PermissionDenied,
            other => Self::CannotOpen { error: std::io::Error::from_raw_os_error(other).to_string() },
        }
    }

    /// A command that may fix it, where there is one.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoDevice => Some("modprobe kvm_intel || modprobe kvm_amd"),
            Self::PermissionDenied => Some("usermod -aG kvm \"$USER\"   # as root; then log in again"),
            Self::GuestFailed { .. } => Some("mimeo run --accel kvm …   # tries KVM again"),
            _ => None,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmulationRequested => f.write_str("emulation was requested"),
            Self::NoDevice => f.write_str("this host has no /dev/kvm"),
            Self::PermissionDenied => f.write_str("this user may not open /dev/kvm"),
            Self::CannotOpen { error } => write!(f, "cannot open /dev/kvm: {error}"),
            Self::Refused { step, error } => write!(f, "KVM cannot {step}: {error}"),
            Self::GuestFailed { how } => write!(f, "KVM does not run mimeo's guest: {how}"),
        }
    }
}

impl FromStr for Accel {
    type Err = UnknownAccel;

    fn from_str(name: &str) -> Result<Self, UnknownAccel> {
        match name {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => Err(UnknownAccel(other.to_owned())),
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcg_does_not_probe_kvm() {
        let choice = choose(Accel::Tcg, "guest", Path::new("/nowhere"));
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert_eq!(choice.verdict, Verdict::Unusable(Unusable::EmulationRequested));
    }

    #[test]
    fn an_explicit_accelerator_overrides_the_verdict() {
        let dir = tempfile::tempdir().unwrap();
        super::super::record(dir.path(), "guest", Err(Unusable::GuestFailed { how: "x".to_owned() }));
        let explicit = choose(Accel::Kvm, "guest", dir.path());
        assert_eq!(explicit.accelerator, Accelerator::Kvm);
        let auto = choose(Accel::Auto, "guest", dir.path());
        assert_eq!(auto.accelerator, Accelerator::Tcg);
        assert_eq!(auto.verdict, explicit.verdict);
    }

    #[test]
    fn a_verdict_applies_to_one_kind_of_guest_only() {
        let dir = tempfile::tempdir().unwrap();
        super::super::record(dir.path(), "one", Ok(()));
        let [one, other] = ["one", "other"].map(|guest| choose(Accel::Auto, guest, dir.path()).verdict);
        if Path::new("/dev/kvm").exists() {
            assert_eq!(one, Verdict::Proved);
        }
        assert_ne!(other, Verdict::Proved);
    }

    #[test]
    fn accel_names_round_trip() {
        for accel in [Accel::Auto, Accel::Kvm, Accel::Tcg] {
            assert_eq!(accel.to_string().parse(), Ok(accel));
        }
        assert!("fast".parse::<Accel>().is_err());
    }
}
