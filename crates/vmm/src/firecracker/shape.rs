//! What a saved state depends on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{GUEST_CID, GUEST_PORT};
use crate::{LaunchSpec, program};

/// Describes everything that a state is bound to, except for file names, which are the same in all machines.
/// Firecracker raises the format whenever it cannot load older states any more.
pub(super) fn shape(spec: &LaunchSpec, format: &str) -> String {
    let drives: Vec<_> = spec.disks.iter().map(|disk| if disk.read_only { "ro" } else { "rw" }).collect();
    format!(
        "firecracker state {format} transport mmio cpus {} smt off memory {} MiB pages host drives {} card {} \
         vsock {GUEST_CID}:{GUEST_PORT} entropy on balloon 0 MiB deflate-on-oom",
        spec.cpus,
        spec.memory_mib,
        drives.join(","),
        spec.network.is_some(),
    )
}

/// The format of the states that a program writes and reads, queried once for each program.
#[derive(Debug, Clone, Default)]
pub(super) struct StateFormat {
    known: Arc<Mutex<Option<Cached>>>,
    /// A cache file for all processes.
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cached {
    /// Path, size, modification time, inode and change time.
    program: String,
    format: String,
}

impl StateFormat {
    pub(super) fn cached_in(file: PathBuf) -> Self {
        Self { known: Arc::default(), file: Some(file) }
    }

    /// The output of `firecracker --snapshot-version`, or `unknown`.
    pub(super) fn query(&self, firecracker: Option<PathBuf>) -> String {
        const UNKNOWN: &str = "unknown";
        let Some((path, program)) =
            firecracker.and_then(|path| exact_identity(&path).map(|identity| (path, identity)))
        else {
            return UNKNOWN.to_owned();
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = known.clone().or_else(|| self.read()).filter(|cached| cached.program == program);
        let cached = cached.or_else(|| {
            let cached = run_snapshot_version(&path).map(|format| Cached { program, format })?;
            self.store(&cached);
            Some(cached)
        });
        known.clone_from(&cached);
        cached.map_or_else(|| UNKNOWN.to_owned(), |cached| cached.format)
    }

    fn read(&self) -> Option<Cached> {
        serde_json::from_slice(&fs::read(self.file.as_ref()?).ok()?).ok()
    }

    /// Writes the cache atomically. If that fails, the next process runs the program again.
    fn store(&self, cached: &Cached) {
        let Some((file, folder)) = self.file.as_ref().and_then(|file| Some((file, file.parent()?))) else {
            return;
        };
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut draft| {
            serde_json::to_writer(&mut draft, cached)?;
            draft.persist(file).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::debug!(file = %file.display(), %error, "cannot write the snapshot version cache");
        }
    }
}

/// The program's identity, which also changes if another file of the same size and modification time replaces
/// it.
fn exact_identity(path: &Path) -> Option<String> {
    let file = path.metadata().ok()?;
    let identity = program::file_identity(path)?;
    Some(format!("{identity} {} {}.{}", file.ino(), file.ctime(), file.ctime_nsec()))
}

fn run_snapshot_version(firecracker: &Path) -> Option<String> {
    let output = Command::new(firecracker)
        .arg("--snapshot-version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find(|line| line.starts_with('v')).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that logs each run.
    fn write_program(dir: &Path, format: &str) -> PathBuf {
        let path = dir.join("firecracker");
        let text = format!("#!/bin/sh\necho run >> {}\necho {format}\n", dir.join("runs").display());
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    #[test]
    fn the_format_is_queried_once_for_each_program() {
        let dir = tempfile::tempdir().expect("a directory");
        let query =
            |path: &Path| StateFormat::cached_in(dir.path().join("format.json")).query(Some(path.to_owned()));
        let runs = || fs::read_to_string(dir.path().join("runs")).expect("the program ran").lines().count();
        let first = write_program(dir.path(), "v7.0.0");
        assert_eq!((query(&first), query(&first), runs()), ("v7.0.0".to_owned(), "v7.0.0".to_owned(), 1));
        let second = write_program(dir.path(), "v10.0.0");
        assert_eq!((query(&second), runs()), ("v10.0.0".to_owned(), 2));
        // A damaged cache is ignored.
        fs::write(dir.path().join("format.json"), "{").expect("written");
        assert_eq!((query(&second), runs()), ("v10.0.0".to_owned(), 3));
        assert_eq!(query(&dir.path().join("none")), "unknown");
    }
}
