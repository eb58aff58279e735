//! The verdict, kept for as long as what it was made of stays the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decide::Acceleration;

const DEVICE: &str = "/dev/kvm";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Changes when the proof does: an old verdict is no answer to a new question.
const PROOF_GENERATION: u32 = 1;

/// What a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    proof: u32,
    boot_id: String,
    /// Device and inode numbers, and the time of the last change of owner or
    /// mode in seconds and nanoseconds.
    device: (u64, u64, i64, i64),
    user: u32,
    groups: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    circumstances: Circumstances,
    acceleration: Acceleration,
}

/// The kept verdict if nothing changed since, else a new one, which is kept.
/// Where nothing can be kept, the proof is made each time: that costs time,
/// never the truth.
pub(super) fn kept_or(run_dir: &Path, prove: impl FnOnce() -> Acceleration) -> Acceleration {
    let Ok(now) = Circumstances::now() else { return prove() };
    let path = run_dir.join(format!("acceleration-{}.json", now.user));
    if let Some(kept) = read(&path).filter(|kept| kept.circumstances == now) {
        return kept.acceleration;
    }
    let acceleration = prove();
    let kept = Kept { circumstances: now, acceleration: acceleration.clone() };
    if let Err(error) = write(&path, &kept) {
        tracing::debug!(path = %path.display(), %error, "the acceleration verdict is not kept");
    }
    acceleration
}

impl Circumstances {
    fn now() -> io::Result<Self> {
        let device = fs::metadata(DEVICE)?;
        Ok(Self {
            proof: PROOF_GENERATION,
            boot_id: boot_id()?,
            device: (device.dev(), device.ino(), device.ctime(), device.ctime_nsec()),
            user: rustix::process::geteuid().as_raw(),
            groups: groups()?,
        })
    }
}

pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn groups() -> io::Result<Vec<u32>> {
    let mut groups: Vec<_> = rustix::process::getgroups()?.iter().map(|group| group.as_raw()).collect();
    groups.push(rustix::process::getegid().as_raw());
    groups.sort_unstable();
    Ok(groups)
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    replace(path, &serde_json::to_vec(kept)?)
}

/// By rename: another process may read at any time.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    io::Write::write_all(&mut new, bytes)?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::Why;

    fn verdict() -> Acceleration {
        Acceleration::Tcg { why: Why::Hung { stage: crate::accel::Stage::Int3 } }
    }

    fn has_device() -> bool {
        Path::new(DEVICE).exists()
    }

    #[test]
    fn a_verdict_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept_or(dir.path(), verdict), verdict());
        if has_device() {
            assert_eq!(kept_or(dir.path(), || panic!("proved again")), verdict());
        }
    }

    #[test]
    fn a_verdict_of_other_circumstances_or_damaged_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        if !has_device() {
            return;
        }
        kept_or(dir.path(), verdict);
        let path = dir.path().join(format!("acceleration-{}.json", rustix::process::geteuid().as_raw()));
        let mut kept = read(&path).unwrap();
        kept.circumstances.boot_id.push('x');
        write(&path, &kept).unwrap();
        let other = Acceleration::Kvm { million_instructions_per_second: 1 };
        assert_eq!(kept_or(dir.path(), || other.clone()), other);
        fs::write(&path, b"{").unwrap();
        assert_eq!(kept_or(dir.path(), verdict), verdict());
    }
}
