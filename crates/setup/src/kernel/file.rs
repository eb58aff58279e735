//! A kernel that the user gives as a file, with or without modules.

use std::path::{Path, PathBuf};

use super::image::{self, ImageError};
use super::manifest::{FORMAT, Manifest, Modules, Origin};
use super::modules::{self, ModulesError};
use crate::files::{FileError, read, sha256};

/// Digits of the hash in a kernel's name.
const NAME_DIGITS: usize = 12;

/// Why a given kernel was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileKernelError {
    /// It cannot be booted.
    #[error("{} cannot be booted", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ImageError,
    },
    /// The given directory lacks a module, or has a damaged one.
    #[error("cannot use the modules in {}", dir.display())]
    Modules {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        source: ModulesError,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A given kernel, read once so that its name matches the bytes that are copied.
#[derive(Debug)]
pub(super) struct FileKernel {
    path: PathBuf,
    modules: Option<PathBuf>,
    bytes: Vec<u8>,
}

impl FileKernel {
    pub(super) fn read(path: &Path, modules: Option<&Path>) -> Result<Self, FileKernelError> {
        Ok(Self { path: path.to_owned(), modules: modules.map(Path::to_owned), bytes: read(path)? })
    }

    /// Contains the kernel's digest and, if there are modules, that of their
    /// path and selection: the same file with other modules is another kernel.
    pub(super) fn name(&self) -> String {
        let digest = sha256(&self.bytes);
        let modules = self.modules.as_ref().map(|dir| {
            let (dir, selection) = (dir.as_os_str().as_encoded_bytes(), modules::selection());
            sha256(&[dir, selection.as_bytes()].concat())
        });
        let suffix = modules.map(|digest| format!("-m{}", &digest[..4])).unwrap_or_default();
        format!("file-{}{suffix}", &digest[..NAME_DIGITS])
    }

    pub(super) fn fill(&self, dir: &Path) -> Result<Manifest, FileKernelError> {
        let unusable = |source| FileKernelError::Image { path: self.path.clone(), source };
        let written = image::write(&self.bytes, dir).map_err(unusable)?;
        Ok(Manifest {
            format: FORMAT,
            name: self.name(),
            release: written.release,
            origin: Origin::File { path: self.path.clone(), modules: self.modules.clone() },
            image: written.image,
            fallback: written.fallback,
            modules: self.copy_modules(dir)?,
        })
    }

    fn copy_modules(&self, into: &Path) -> Result<Modules, FileKernelError> {
        let Some(dir) = &self.modules else { return Ok(Modules::default()) };
        modules::copy(dir, into).map_err(|source| FileKernelError::Modules { dir: dir.clone(), source })
    }
}
