//! The file that decides a fork: once it is written, all clones of the fork run, whichever process dies.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::id::{MachineId, SnapshotId};
use crate::ignored::LogIgnored;
use crate::launch_request::CloneInfo;
use crate::machine::Phase;

/// The file name prefix of decisions of forks without a key.
const KEYLESS_PREFIX: &str = "once-";
/// Seconds for which a fork's key stays valid after all of its clones are gone.
const KEY_LIFETIME_SECONDS: u64 = 24 * 3600;

/// A fork's decision.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) machine: MachineId,
    pub(crate) snapshot: SnapshotId,
    pub(crate) pause_micros: u64,
    #[serde(rename = "children")]
    pub(crate) clones: Vec<CloneInfo>,
    /// A digest of the requested overrides.
    #[serde(default, rename = "asked")]
    pub(crate) request_digest: String,
}

pub(crate) fn path(engine: &Engine, key: Option<&str>) -> PathBuf {
    let name = match key {
        Some(key) => blake3::hash(key.as_bytes()).to_hex()[..32].to_owned(),
        None => format!("{KEYLESS_PREFIX}{}", uuid::Uuid::new_v4().simple()),
    };
    engine.home().forks().join(format!("{name}.json"))
}

pub(crate) fn read(path: &Path) -> Option<Decision> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Returns whether the decision includes this clone.
pub(crate) fn includes_clone(decision: &Path, id: &MachineId) -> bool {
    read(decision).is_some_and(|decision| decision.clones.iter().any(|clone| clone.id == id.as_str()))
}

pub(crate) fn exists(engine: &Engine, clone: &CloneInfo) -> bool {
    MachineId::try_from(clone.id.clone()).is_ok_and(|id| engine.home().machine(&id).exists())
}

/// Removes decisions of forks whose clones are all gone, once they are older than a day: a later request
/// with the same key starts new clones.
pub(crate) fn sweep(engine: &Engine) {
    let Ok(entries) = fs::read_dir(engine.home().forks()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(decision) = read(&path) else { continue };
        let is_expired = fs::metadata(&path)
            .and_then(|file| file.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > KEY_LIFETIME_SECONDS));
        if is_keyless(&path) {
            // The clones need the file only until they are released.
            if !decision.clones.iter().any(|clone| is_waiting(engine, clone)) {
                fs::remove_file(&path).log_leftover(&path);
            }
        } else if is_expired && !decision.clones.iter().any(|clone| exists(engine, clone)) {
            let lock = path.with_extension("lock");
            fs::remove_file(&lock).log_leftover(&lock);
            fs::remove_file(&path).log_leftover(&path);
        }
    }
}

/// Returns whether this is the decision of a fork without a key, which no request can refer to.
fn is_keyless(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KEYLESS_PREFIX))
}

fn is_waiting(engine: &Engine, clone: &CloneInfo) -> bool {
    let found = MachineId::try_from(clone.id.clone()).ok().and_then(|id| engine.registry().read(&id));
    found.is_some_and(|found| found.supervised && found.record.phase() == Phase::Creating)
}
