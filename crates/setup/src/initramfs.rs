//! The initramfs of every guest: the agent as `/init`, and the kernel's modules.
//!
//! Not compressed: gzip, LZ4 and zstd shrink its 2 MB to a third, but make no
//! emulated boot faster (within 30 ms of CPU time, 5 boots each).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::cpio::Cpio;
use super::files::{FileError, IoContext as _, hex, read, rename_synced, write_synced};
use super::kernel::{Kernel, Module};

/// Incremented when the archive's layout changes, so that an old archive is not used.
const LAYOUT: u32 = 1;
/// Hex digits of the inputs' digest in the file name.
const NAME_DIGITS: usize = 16;
const PREFIX: &str = "initramfs-";
const SUFFIX: &str = ".cpio";

/// Why the initramfs could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the initramfs for kernel {kernel}")]
pub struct InitramfsError {
    kernel: String,
    source: FileError,
}

/// An initramfs on the disk. No sweep deletes the file while this value
/// exists. A VMM that has started no longer needs the file.
#[derive(Debug)]
pub struct Initramfs {
    /// The archive.
    pub path: PathBuf,
    _lock: File,
}

impl Initramfs {
    /// Returns the initramfs of this kernel and this agent. Builds it if it
    /// does not exist, and then deletes those that are no longer in use. The
    /// agent must be a static executable: the initramfs has no libraries.
    ///
    /// # Errors
    /// Names the kernel; the source names step and path.
    pub fn ensure(kernel: &Kernel, agent: &[u8]) -> Result<Self, InitramfsError> {
        find_or_build(kernel, agent)
            .map_err(|source| InitramfsError { kernel: kernel.manifest.name.clone(), source })
    }
}

fn find_or_build(kernel: &Kernel, agent: &[u8]) -> Result<Initramfs, FileError> {
    let path = kernel.dir.join(file_name(kernel, agent));
    if let Some(found) = open_shared(&path)? {
        return Ok(found);
    }
    // A sweep between the rename and the lock may delete the archive: build it again then.
    loop {
        build(kernel, agent, &path)?;
        if let Some(built) = open_shared(&path)? {
            sweep(&kernel.dir, &path)?;
            return Ok(built);
        }
    }
}

/// The name contains a digest of all inputs.
fn file_name(kernel: &Kernel, agent: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(LAYOUT.to_le_bytes());
    digest.update(Sha256::digest(agent));
    let modules = &kernel.manifest.modules;
    for (list, modules) in [("eager", &modules.eager), ("lazy", &modules.lazy)] {
        digest.update(format!("{list} {}\n", modules.len()));
        modules.iter().for_each(|Module { file, sha256 }| digest.update(format!("{file} {sha256}\n")));
    }
    format!("{PREFIX}{}{SUFFIX}", &hex(&digest.finalize())[..NAME_DIGITS])
}

/// Opens the archive and takes a shared lock on it; `None` if it does not exist.
fn open_shared(path: &Path) -> Result<Option<Initramfs>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    flock(&file, FlockOperation::LockShared).at("lock", path)?;
    // A sweep may have deleted the file between open and flock.
    let is_linked = file.metadata().at("examine", path)?.nlink() > 0;
    Ok(is_linked.then(|| Initramfs { path: path.to_owned(), _lock: file }))
}

fn build(kernel: &Kernel, agent: &[u8], path: &Path) -> Result<(), FileError> {
    let archive = build_archive(kernel, agent)?;
    let staging = tempfile::Builder::new().prefix(".initramfs-").tempdir_in(&kernel.dir);
    let staging = staging.at("create a directory in", &kernel.dir)?;
    let new = staging.path().join("new");
    write_synced(&new, &archive)?;
    rename_synced(&new, path)
}

fn build_archive(kernel: &Kernel, agent: &[u8]) -> Result<Vec<u8>, FileError> {
    let mut cpio = Cpio::default();
    for dir in ["dev", "proc", "sys", "run", "modules"] {
        cpio.add_directory(dir);
    }
    // The kernel opens the console for init's standard streams before devtmpfs is mounted.
    cpio.add_character_device("dev/console", 0o600, (5, 1));
    cpio.add_file("init", 0o755, agent);
    let modules = &kernel.manifest.modules;
    cpio.add_file("modules.eager", 0o644, file_list(&modules.eager).as_bytes());
    cpio.add_file("modules.lazy", 0o644, file_list(&modules.lazy).as_bytes());
    for module in modules.eager.iter().chain(&modules.lazy) {
        cpio.add_file(&format!("modules/{}", module.file), 0o644, &read(&kernel.module(module))?);
    }
    Ok(cpio.finish())
}

fn file_list(modules: &[Module]) -> String {
    modules.iter().map(|module| format!("{}\n", module.file)).collect()
}

/// Whether the kernel has an initramfs, with any agent.
pub(super) fn exists(kernel: &Kernel) -> bool {
    let Ok(mut entries) = fs::read_dir(&kernel.dir) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| is_initramfs(&entry.path())))
}

/// Deletes the archives that are not locked.
fn sweep(dir: &Path, keep: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).at("list", dir)? {
        let path = entry.at("list", dir)?.path();
        if path != keep && is_initramfs(&path) {
            remove_unused(&path)?;
        }
    }
    Ok(())
}

fn is_initramfs(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

fn remove_unused(path: &Path) -> Result<(), FileError> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}
