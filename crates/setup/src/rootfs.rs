//! `setup rootfs`: what every machine's disk and first root start from.

use std::path::Path;

use super::files::{FileError, create_dir};
use super::initramfs::{Initramfs, InitramfsError};
use super::kernel::{Kernel, LoadError};

/// The directories of a home, all of them.
const DIRECTORIES: [&str; 4] = ["images", "kernels", "machines", "snapshots"];

/// Why a host is not prepared.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// There is no kernel to make it for.
    #[error("machines have no kernel yet")]
    Kernel(#[from] LoadError),
    /// The first root could not be made.
    #[error("machines have no first root")]
    Initramfs(#[from] InitramfsError),
    /// The empty disk could not be made.
    #[error("machines have no empty disk to write to")]
    BlankDisk(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A directory could not be made.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What every machine starts from.
#[derive(Debug)]
pub struct Rootfs {
    /// The default kernel.
    pub kernel: Kernel,
    /// Its initramfs, held until dropped.
    pub initramfs: Initramfs,
}

/// Makes the home's directories, the initramfs of the default kernel and this
/// agent, and the empty writable disk, by `blank_disk`, which gets the home
/// and must be idempotent as this is.
///
/// # Errors
/// One per part; what was made before the failing one stays.
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
