//! `setup kernel`: creates a kernel's directory from a source and makes it the default.

use std::fmt;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Record};
use super::build::{self, BuildError};
use super::debian::{self, DebianError};
use super::file::{FileKernel, FileKernelError};
use super::load::{Kernel, LoadError};
use super::manifest::Manifest;
use super::store::{LockedStore, Store};
use crate::files::{FileError, write_synced};

/// Where a kernel comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Debian's cloud kernel, through apt.
    #[default]
    Debian,
    /// A file: an ELF kernel with a PVH entry, or a bzImage.
    File {
        /// The kernel.
        kernel: PathBuf,
        /// A tree like `/lib/modules/<release>`; `None` if all modules are built in.
        modules: Option<PathBuf>,
    },
    /// A small kernel, built on this host from the distribution's source; takes minutes.
    Build {
        /// The source package; by default the newest that was tested.
        package: Option<String>,
    },
}

/// What a setup is doing, for progress messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another setup has locked the directory.
    Waiting,
    /// The kernel exists already and is being checked.
    Checking {
        /// Its name.
        name: String,
    },
    /// An unusable kernel was renamed, so that it can be examined.
    SetAside {
        /// Its new path.
        to: PathBuf,
        /// The reason, in one line.
        reason: String,
    },
    /// A package is being downloaded.
    Downloading {
        /// The package.
        package: String,
        /// Its version.
        version: String,
    },
    /// A package is being unpacked.
    Unpacking {
        /// The package's file.
        path: PathBuf,
    },
    /// The kernel and its modules are being extracted.
    Extracting,
    /// A kernel is being compiled; repeated every few seconds.
    Building {
        /// The log of the build.
        log: PathBuf,
        /// Lines in the log; about 2,200 when the build ends.
        lines: usize,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for another setup to finish"),
            Self::Checking { name } => write!(f, "checking the existing kernel {name}"),
            Self::SetAside { to, reason } => {
                write!(f, "set aside the unusable kernel ({reason}): {}", to.display())
            }
            Self::Downloading { package, version } => write!(f, "downloading {package} {version}"),
            Self::Unpacking { path } => write!(f, "unpacking {}", path.display()),
            Self::Extracting => f.write_str("extracting the kernel and its modules"),
            Self::Building { log, lines } => write!(f, "building, {lines} lines so far in {}", log.display()),
        }
    }
}

/// Why no kernel was set up. The kernels that existed before are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The distribution's kernel could not be set up.
    #[error("cannot set up Debian's kernel")]
    Debian(#[from] DebianError),
    /// No kernel was built.
    #[error("cannot set up a kernel from source")]
    Build(#[from] BuildError),
    /// The given file was refused.
    #[error("cannot set up the given kernel")]
    GivenFile(#[from] FileKernelError),
    /// The directory of kernels could not be changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The new kernel cannot be read back.
    #[error("cannot read back the kernel that was set up")]
    ReadBack(#[from] LoadError),
}

/// Sets up a kernel and makes it the default. A second call changes nothing;
/// concurrent calls run one after the other. Takes seconds for Debian's
/// kernel, mostly to unpack it.
///
/// # Errors
/// One variant per source; each names its step and path.
pub fn set_up(home: &Path, source: &Source, progress: &mut dyn FnMut(Step)) -> Result<Kernel, SetUpError> {
    let plan = Plan::new(source)?;
    let store = Store::at(home).lock(|| progress(Step::Waiting))?;
    let kernel = match load_existing(&store, &plan.name(), progress)? {
        Some(kernel) => kernel,
        None => create(&store, &plan, progress)?,
    };
    store.set_default(&kernel.manifest.name)?;
    Ok(kernel)
}

/// A source whose version, and therefore the kernel's name, is known.
enum Plan {
    Debian(Apt, Record),
    Build(Apt, Record),
    File(FileKernel),
}

impl Plan {
    fn new(source: &Source) -> Result<Self, SetUpError> {
        match source {
            Source::Debian => {
                let apt = Apt::default();
                let record = debian::resolve(&apt)?;
                Ok(Self::Debian(apt, record))
            }
            Source::Build { package } => {
                let apt = Apt::default();
                let record = build::resolve(&apt, package.as_deref())?;
                Ok(Self::Build(apt, record))
            }
            Source::File { kernel, modules } => Ok(Self::File(FileKernel::read(kernel, modules.as_deref())?)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Debian(_, record) => debian::name(record),
            Self::Build(_, record) => build::name(record),
            Self::File(kernel) => kernel.name(),
        }
    }

    fn fill(&self, dir: &Path, progress: &mut dyn FnMut(Step)) -> Result<Manifest, SetUpError> {
        match self {
            Self::Debian(apt, record) => Ok(debian::fill(apt, record, dir, progress)?),
            Self::Build(apt, record) => Ok(build::fill(apt, record, dir, progress)?),
            Self::File(kernel) => Ok(kernel.fill(dir)?),
        }
    }
}

fn create(store: &LockedStore, plan: &Plan, progress: &mut dyn FnMut(Step)) -> Result<Kernel, SetUpError> {
    let staged = store.stage()?;
    let manifest = plan.fill(staged.path(), progress)?;
    write_manifest(&manifest, staged.path())?;
    let dir = store.commit(staged, &manifest.name)?;
    Ok(Kernel::load_dir(&dir)?)
}

/// Loads the kernel of that name, if it exists and is intact. A damaged one is
/// moved aside.
fn load_existing(
    store: &LockedStore,
    name: &str,
    progress: &mut dyn FnMut(Step),
) -> Result<Option<Kernel>, SetUpError> {
    let dir = store.path(name);
    if !dir.exists() {
        return Ok(None);
    }
    progress(Step::Checking { name: name.to_owned() });
    match Kernel::load_dir(&dir).and_then(|kernel| kernel.verify().map(|()| kernel)) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error) => {
            progress(Step::SetAside { to: store.set_aside(name)?, reason: error.to_string() });
            Ok(None)
        }
    }
}

fn write_manifest(manifest: &Manifest, dir: &Path) -> Result<(), FileError> {
    let path = dir.join("kernel.json");
    let mut json = serde_json::to_vec_pretty(manifest).map_err(|error| FileError {
        step: "serialize",
        path: path.clone(),
        source: error.into(),
    })?;
    json.push(b'\n');
    write_synced(&path, &json)
}
