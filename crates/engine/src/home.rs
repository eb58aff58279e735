//! The directories in which mimeo stores its files.

use std::env;
use std::path::{Path, PathBuf};

use crate::id::MachineId;

/// The longest path of a Unix socket that the kernel accepts, without the final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The variable that names the directory of persistent files.
pub(crate) const HOME_VARIABLE: &str = "MIMEO_HOME";
/// The variable that names the directory of sockets.
pub(crate) const RUN_VARIABLE: &str = "MIMEO_RUN";

/// mimeo's two directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    home: PathBuf,
    run: PathBuf,
}

/// Why the directories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No environment variable names the home directory.
    #[error("neither MIMEO_HOME, XDG_DATA_HOME nor HOME is set: set MIMEO_HOME to a directory of yours")]
    Unknown,
    /// A relative path would depend on the current directory.
    #[error("{variable} must be an absolute path, not {}", path.display())]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Sockets in this directory could not be connected to.
    #[error("MIMEO_RUN is too long a path for sockets (at most {max} bytes): {}", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// The longest path allowed.
        max: usize,
    },
    /// A directory cannot be created or used.
    #[error("cannot make {}", path.display())]
    Create {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

impl Home {
    /// `MIMEO_HOME` and `MIMEO_RUN`, or their defaults: /var/lib/mimeo and
    /// /run/mimeo for root, else `$XDG_DATA_HOME/mimeo` (`~/.local/share/mimeo`)
    /// and `$XDG_RUNTIME_DIR/mimeo` (`/tmp/mimeo-UID` where there is none). The
    /// directories are created, accessible only by their owner.
    ///
    /// # Errors
    /// If they cannot be determined or created.
    pub fn from_environment() -> Result<Self, HomeError> {
        let root = rustix::process::geteuid().is_root();
        let home = match path_from_variable(HOME_VARIABLE)? {
            Some(path) => path,
            None if root => PathBuf::from("/var/lib/mimeo"),
            None => data_home()?.join("mimeo"),
        };
        let run = match path_from_variable(RUN_VARIABLE)? {
            Some(path) => path,
            None if root => PathBuf::from("/run/mimeo"),
            None => runtime_dir()?,
        };
        Self::at(home, run)
    }

    /// Uses these two directories.
    ///
    /// # Errors
    /// If they cannot be created, or `run` is too long for the paths of sockets.
    pub fn at(home: PathBuf, run: PathBuf) -> Result<Self, HomeError> {
        let longest = run.join("machines/0123456789ab/control.sock").as_os_str().len();
        if longest > MAX_SOCKET_PATH {
            let max = MAX_SOCKET_PATH - (longest - run.as_os_str().len());
            return Err(HomeError::TooLong { path: run, max });
        }
        let this = Self { home, run };
        for dir in [
            this.home.clone(),
            this.templates(),
            this.machines(),
            this.snapshots(),
            this.stencils(),
            this.serves(),
            this.forks(),
            this.volumes(),
            this.run.clone(),
            this.run.join("machines"),
            this.run.join("serves"),
        ] {
            create_private_dir(&dir)?;
        }
        // The kernel reports files by their canonical path, whatever path was used to open them.
        let canonicalize = |dir: PathBuf| {
            dir.canonicalize().map_err(|source| HomeError::Create { path: dir.clone(), source })
        };
        Ok(Self { home: canonicalize(this.home)?, ..this })
    }

    /// Returns the directory of persistent files.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the directory of files that end with the machines, such as sockets.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Returns the directory of images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.home.join("images")
    }

    /// Returns the directory of bases, with one directory each.
    #[must_use]
    pub fn bases(&self) -> PathBuf {
        self.home.join("bases")
    }

    /// Returns the directory of programs that `setup` installed.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.home.join("programs")
    }

    /// Returns the directory of empty disks, which machines' disks are copied from.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.home.join("templates")
    }

    /// Returns the directory of machines, with one directory each.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.home.join("machines")
    }

    /// Returns the directory of snapshots, with one directory each.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.home.join("snapshots")
    }

    /// Returns the directory of stencils, grouped by boot of the host.
    #[must_use]
    pub fn stencils(&self) -> PathBuf {
        self.home.join("stencils")
    }

    /// Returns the directory of snapshot servers, with one directory each.
    #[must_use]
    pub fn serves(&self) -> PathBuf {
        self.home.join("serves")
    }

    /// Returns the directory of fork decisions, named by the forks' keys.
    #[must_use]
    pub fn forks(&self) -> PathBuf {
        self.home.join("forks")
    }

    /// Returns the directory of named volumes, with one directory each.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.home.join("volumes")
    }

    /// Returns the directory of dumps of guests that did not answer, with one directory each.
    #[must_use]
    pub fn hangs(&self) -> PathBuf {
        self.home.join("hangs")
    }

    /// Returns the file of events, with one JSON object per line.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.home.join("events.jsonl")
    }

    /// Returns a machine's directory.
    #[must_use]
    pub fn machine(&self, id: &MachineId) -> PathBuf {
        self.machines().join(id.short())
    }

    /// Returns the directory of a machine's sockets.
    #[must_use]
    pub fn machine_run(&self, id: &MachineId) -> PathBuf {
        self.run.join("machines").join(id.short())
    }
}

fn path_from_variable(variable: &'static str) -> Result<Option<PathBuf>, HomeError> {
    match env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        Some(path) if path.is_relative() => Err(HomeError::Relative { variable, path }),
        path => Ok(path),
    }
}

fn data_home() -> Result<PathBuf, HomeError> {
    match path_from_variable("XDG_DATA_HOME")? {
        Some(path) => Ok(path),
        None => Ok(path_from_variable("HOME")?.ok_or(HomeError::Unknown)?.join(".local/share")),
    }
}

fn runtime_dir() -> Result<PathBuf, HomeError> {
    let uid = rustix::process::geteuid().as_raw();
    match path_from_variable("XDG_RUNTIME_DIR")?.filter(|dir| dir.is_dir()) {
        Some(path) => Ok(path.join("mimeo")),
        None => Ok(PathBuf::from(format!("/tmp/mimeo-{uid}"))),
    }
}

fn create_private_dir(dir: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let checked = created.and_then(|()| std::fs::metadata(dir)).and_then(|metadata| {
        // In /tmp another user may have created it first.
        if metadata.uid() == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it belongs to another user"))
    });
    checked.map_err(|source| HomeError::Create { path: dir.to_owned(), source })
}
