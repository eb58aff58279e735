//! From what a person asked for and what the host can do to the way that
//! guests run.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cache;
use super::guest::Stage;
use super::proof::prove;

/// What a person asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where it is proved to work, else emulation.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation, without looking at KVM.
    Tcg,
}

/// How guests run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Acceleration {
    /// On the CPU, through KVM.
    Kvm {
        /// What the scratch guest reached.
        million_instructions_per_second: u64,
    },
    /// Emulated by QEMU's code generator.
    Tcg {
        /// Why not on the CPU.
        why: Why,
    },
}

/// Why KVM is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Why {
    /// Emulation was asked for.
    Asked,
    /// There is no `/dev/kvm`.
    NoDevice,
    /// `/dev/kvm` belongs to others.
    PermissionDenied,
    /// `/dev/kvm` cannot be opened for another reason.
    CannotOpen {
        /// What the system answered.
        error: String,
    },
    /// A step before the first instruction was refused.
    Refused {
        /// The step.
        step: String,
        /// What KVM answered.
        error: String,
    },
    /// The guest stopped before its end.
    Stopped {
        /// At which instruction.
        stage: Stage,
        /// How.
        exit: String,
    },
    /// The guest computed something else than a CPU does.
    WrongResult {
        /// At which instruction.
        stage: Stage,
    },
    /// It runs, slower than emulation would.
    TooSlow {
        /// Instructions done.
        instructions: u64,
        /// In this time.
        milliseconds: u64,
    },
    /// The guest neither ended nor went on.
    Hung {
        /// At which instruction.
        stage: Stage,
    },
}

/// Why the way that was asked for cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccelError {
    /// KVM was asked for and does not work here.
    #[error("KVM was asked for and cannot be used: {why}")]
    KvmUnusable {
        /// What the proof found.
        why: Why,
    },
}

/// Another word than `auto`, `kvm` or `tcg`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an accelerator: auto, kvm or tcg")]
pub struct UnknownAccel(String);

/// Decides how guests run. The proof's verdict is kept in `run_dir`
/// (`MIMEO_RUN`) until the next boot, or until the device or the person's
/// groups change; `Accel::Tcg` asks neither.
///
/// # Errors
/// KVM was asked for and is not proved to work: there is no silent fallback.
pub fn decide(accel: Accel, run_dir: &Path) -> Result<Acceleration, AccelError> {
    match accel {
        Accel::Tcg => Ok(Acceleration::Tcg { why: Why::Asked }),
        Accel::Auto => Ok(cache::kept_or(run_dir, prove)),
        Accel::Kvm => match cache::kept_or(run_dir, prove) {
            Acceleration::Tcg { why } => Err(AccelError::KvmUnusable { why }),
            kvm @ Acceleration::Kvm { .. } => Ok(kvm),
        },
    }
}

impl Why {
    pub(super) fn from_open(errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Self::NoDevice,
            libc::EACCES | libc::EPERM => Self::PermissionDenied,
            other => Self::CannotOpen { error: std::io::Error::from_raw_os_error(other).to_string() },
        }
    }

    /// A command or an act that changes it, where there is one.
    pub fn mend(&self) -> Option<&'static str> {
        match self {
            Self::NoDevice => Some("modprobe kvm_intel || modprobe kvm_amd"),
            Self::PermissionDenied => Some("usermod -aG kvm \"$USER\"   # as root; then log in again"),
            _ => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("emulation was asked for"),
            Self::NoDevice => f.write_str("this host has no /dev/kvm"),
            Self::PermissionDenied => f.write_str("/dev/kvm is not open to this user"),
            Self::CannotOpen { error } => write!(f, "/dev/kvm cannot be opened: {error}"),
            Self::Refused { step, error } => write!(f, "KVM cannot {step}: {error}"),
            Self::Stopped { stage, exit } => write!(f, "a scratch guest stopped at {stage}: {exit}"),
            Self::WrongResult { stage } => write!(f, "a scratch guest got a wrong result from {stage}"),
            Self::TooSlow { instructions, milliseconds } => {
                write!(f, "a scratch guest is too slow: {instructions} instructions in {milliseconds} ms")
            }
            Self::Hung { stage } => write!(f, "a scratch guest hung at {stage}"),
        }
    }
}

impl FromStr for Accel {
    type Err = UnknownAccel;

    fn from_str(word: &str) -> Result<Self, UnknownAccel> {
        match word {
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
    fn emulation_asks_nobody() {
        let asked = decide(Accel::Tcg, Path::new("/nowhere"));
        assert_eq!(asked, Ok(Acceleration::Tcg { why: Why::Asked }));
    }

    #[test]
    fn kvm_that_was_asked_for_never_becomes_emulation() {
        let dir = tempfile::tempdir().unwrap();
        match (decide(Accel::Auto, dir.path()).unwrap(), decide(Accel::Kvm, dir.path())) {
            (Acceleration::Tcg { why }, Err(AccelError::KvmUnusable { why: again })) => {
                assert_eq!(why, again)
            }
            (kvm, Ok(again)) => assert_eq!(kvm, again),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_round_trip() {
        for accel in [Accel::Auto, Accel::Kvm, Accel::Tcg] {
            assert_eq!(accel.to_string().parse(), Ok(accel));
        }
        assert!("fast".parse::<Accel>().is_err());
    }
}
