//! The files of an ext4 filesystem, as checks look at them. Paths are absolute; symbolic links are followed within the
//! filesystem.

use std::cell::RefCell;

use ext4_view::{Ext4, Ext4Error};

use crate::filesystem::Superblock;
use crate::window::Window;

/// The largest file that is read as a whole; dpkg's status of a full desktop has 5 MB.
const MAX_FILE: u64 = 32 << 20;
/// The most entries of a directory that are read.
const MAX_ENTRIES: usize = 20_000;
/// The most block groups: those of a filesystem of 16 TiB with blocks of 1 KiB.
const MAX_GROUPS: u64 = 1 << 21;

/// Why a filesystem cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("the filesystem has {bytes} bytes, but its partition only {available}: the image is truncated")]
    Truncated { bytes: u64, available: u64 },
    #[error("the filesystem is damaged: it has {groups} block groups")]
    Groups { groups: u64 },
    #[error("the filesystem cannot be read: {0}")]
    Read(#[from] Ext4Error),
}

/// A filesystem.
pub(crate) struct Tree {
    filesystem: Ext4,
    /// What could not be read, except for what does not exist.
    problems: RefCell<Vec<String>>,
}

impl Tree {
    /// Opens the filesystem in a part of a disk.
    pub(crate) fn open(part: &Window) -> Result<Self, TreeError> {
        if let Some(superblock) = Superblock::read(part) {
            if superblock.bytes > part.bytes() {
                return Err(TreeError::Truncated { bytes: superblock.bytes, available: part.bytes() });
            }
            if superblock.groups > MAX_GROUPS {
                return Err(TreeError::Groups { groups: superblock.groups });
            }
        }
        Ok(Self { filesystem: Ext4::load(Box::new(part.clone()))?, problems: RefCell::default() })
    }

    pub(crate) fn uuid(&self) -> String {
        self.filesystem.uuid().to_string()
    }

    pub(crate) fn take_problems(&self) -> Vec<String> {
        self.problems.take()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.filesystem.exists(path).unwrap_or(false)
    }

    /// Whether one of the paths exists.
    pub(crate) fn any_exists(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.exists(path))
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        self.filesystem.metadata(path).is_ok_and(|meta| meta.is_dir())
    }

    /// Where a path leads through symbolic links; `None` if nowhere.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        let resolved = self.note(path, self.filesystem.canonicalize(path))?;
        resolved.to_str().ok().map(str::to_owned)
    }

    /// The first bytes of a file, up to `limit`; `None` if it does not exist or cannot be read.
    pub(crate) fn read_start(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let read = || {
            let mut file = self.filesystem.open(path)?;
            let wanted = file.metadata().len().min(limit) as usize;
            let mut bytes = vec![0; wanted];
            let mut done = 0;
            while done < wanted {
                match file.read_bytes(&mut bytes[done..])? {
                    0 => break,
                    count => done += count,
                }
            }
            bytes.truncate(done);
            Ok(bytes)
        };
        self.note(path, read())
    }

    /// A file as text, without what is not UTF-8; `None` if it does not exist or cannot be read.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.read_start(path, MAX_FILE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a directory; none if it does not exist.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let read = || {
            let mut names = Vec::new();
            for entry in self.filesystem.read_dir(path)?.take(MAX_ENTRIES) {
                names.extend(entry?.file_name().as_str().ok().map(str::to_owned));
            }
            names.retain(|name| !matches!(name.as_str(), "." | ".."));
            names.sort();
            Ok(names)
        };
        self.note(path, read()).unwrap_or_default()
    }

    /// Records an error, except that a path does not exist.
    fn note<T>(&self, path: &str, read: Result<T, Ext4Error>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => None,
            Err(error) => {
                self.problems.borrow_mut().push(format!("{path}: {error}"));
                None
            }
        }
    }
}
