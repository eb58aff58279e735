//! `setup rootfs`: the initramfs and the empty disk that every machine starts with.

use std::path::Path;

use super::files::{FileError, create_dir};
use super::initramfs::{Initramfs, InitramfsError};
use super::kernel::{Kernel, LoadError};

/// All directories of a home.
const DIRECTORIES: [&str; 4] = ["images", "kernels", "machines", "snapshots"];

/// Why the host could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// There is no usable default kernel.
    #[error("cannot load the default kernel")]
    Kernel(#[from] LoadError),
    /// The initramfs could not be built.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The empty disk could not be created.
    #[error("cannot create an empty disk")]
    BlankDisk(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A directory could not be created.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files that every machine starts with.
#[derive(Debug)]
pub struct Rootfs {
    /// The default kernel.
    pub kernel: Kernel,
    /// Its initramfs, locked until this is dropped.
    pub initramfs: Initramfs,
}

/// Creates the home's directories, builds the initramfs of the default kernel
/// and this agent, and calls `blank_disk` with the home to create the empty
/// writable disk. `blank_disk` must be idempotent, as this function is.
///
/// # Errors
/// One variant per part; the parts before the one that failed remain.
pub fn prepare<E>(
    home: &Path,
    agent: &[u8],
    blank_disk: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Rootfs, RootfsError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    DIRECTORIES.iter().try_for_each(|name| create_dir(&home.join(name)))?;
    let kernel = Kernel::load(home)?;
    let initramfs = Initramfs::ensure(&kernel, agent)?;
    blank_disk(home).map_err(|error| RootfsError::BlankDisk(error.into()))?;
    Ok(Rootfs { kernel, initramfs })
}
