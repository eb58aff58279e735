//! Loads a kernel that was set up before.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{FORMAT, Image, Manifest, Module};
use super::store::Store;
use crate::files::{self, FileError};

/// A kernel on this host, complete and readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its directory, absolute if the home was.
    pub dir: PathBuf,
    /// The directory's manifest.
    pub manifest: Manifest,
}

/// Why a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No kernel was set up yet.
    #[error("no kernel is set up in {}: run `mimeo setup kernel`", kernels.display())]
    NotSetUp {
        /// The directory of all kernels.
        kernels: PathBuf,
    },
    /// `kernel.json` cannot be parsed.
    #[error("{} is not a kernel manifest", path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A newer mimeo wrote it.
    #[error("{} has format {found}, this mimeo reads up to {FORMAT}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format number.
        found: u32,
    },
    /// The bytes of a file are not those that were set up.
    #[error("{} is damaged: its SHA-256 is not the one in kernel.json", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the kernel cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Kernel {
    /// Loads the default kernel of a home directory. Reads `kernel.json` and checks
    /// that its files exist; does not hash them (see [`Kernel::verify`]).
    ///
    /// # Errors
    /// [`LoadError::NotSetUp`] before the first `setup kernel`; the others for
    /// a directory that was changed since.
    pub fn load(home: &Path) -> Result<Self, LoadError> {
        let store = Store::at(home);
        let name =
            store.default_name().ok_or_else(|| LoadError::NotSetUp { kernels: store.dir().to_owned() })?;
        Self::load_dir(&store.dir().join(name))
    }

    /// Loads a kernel by its name.
    ///
    /// # Errors
    /// As [`Kernel::load`].
    pub fn load_named(home: &Path, name: &str) -> Result<Self, LoadError> {
        Self::load_dir(&Store::at(home).dir().join(name))
    }

    pub(super) fn load_dir(dir: &Path) -> Result<Self, LoadError> {
        let kernel = Self { dir: dir.to_owned(), manifest: read_manifest(&dir.join("kernel.json"))? };
        kernel.files().try_for_each(|(path, _)| must_exist(&path))?;
        Ok(kernel)
    }

    /// The file to boot.
    pub fn image(&self) -> PathBuf {
        self.dir.join(&self.manifest.image.file)
    }

    /// The file to boot with a VMM that cannot enter [`Kernel::image`].
    pub fn fallback(&self) -> Option<PathBuf> {
        self.manifest.fallback.as_ref().map(|image| self.dir.join(&image.file))
    }

    /// The path of a module.
    pub fn module(&self, module: &Module) -> PathBuf {
        self.dir.join("modules").join(&module.file)
    }

    /// Compares every file with its SHA-256. This reads the whole directory,
    /// some 70 MB for Debian's kernel.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] names the first file that differs.
    pub fn verify(&self) -> Result<(), LoadError> {
        self.files().try_for_each(|(path, expected)| must_match(path, &expected))
    }

    fn files(&self) -> impl Iterator<Item = (PathBuf, String)> {
        let Manifest { image, fallback, modules, .. } = &self.manifest;
        let images = std::iter::once(image).chain(fallback);
        let images = images.map(|Image { file, sha256, .. }| (self.dir.join(file), sha256.clone()));
        let modules = modules.eager.iter().chain(&modules.lazy);
        images.chain(modules.map(|module| (self.module(module), module.sha256.clone())))
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, LoadError> {
    let bytes = files::read(path)?;
    let unparsable = |source| LoadError::Unparsable { path: path.to_owned(), source };
    let found = serde_json::from_slice::<Format>(&bytes).map_err(unparsable)?.format;
    if found > FORMAT {
        return Err(LoadError::TooNew { path: path.to_owned(), found });
    }
    serde_json::from_slice(&bytes).map_err(unparsable)
}

/// Parsed before the other fields, which a newer format may have changed.
#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

fn must_exist(path: &Path) -> Result<(), LoadError> {
    if path.is_file() {
        return Ok(());
    }
    Err(FileError { step: "find", path: path.to_owned(), source: io::ErrorKind::NotFound.into() }.into())
}

fn must_match(path: PathBuf, expected: &str) -> Result<(), LoadError> {
    if files::sha256(&files::read(&path)?) == expected { Ok(()) } else { Err(LoadError::Damaged { path }) }
}
