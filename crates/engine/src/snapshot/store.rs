//! The snapshots of a home directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::draft::DRAFT_PREFIX;
use super::{Kind, LoadError, Manifest, StoreError};
use crate::Home;
use crate::cause::chain;
use crate::disk_layers;
use crate::id::SnapshotId;
use crate::ignored::LogIgnored;
use crate::io_error::{IoContext, IoError};
use crate::machine::{MachineName, remove_dir};

/// Prefix of the directory of a snapshot that is being removed.
pub(super) const REMOVED_PREFIX: &str = ".gone-";

/// Prefix of the file that marks a boot snapshot as retired: it is kept for the snapshots that are built on
/// it, but no new machine is started from it.
const RETIRED_PREFIX: &str = ".retired-";

/// The snapshots of a home directory.
#[derive(Debug, Clone)]
pub struct Snapshots {
    home: Home,
}

/// A snapshot that was found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its directory.
    pub dir: PathBuf,
}

/// Why no snapshot was found.
#[derive(Debug, thiserror::Error)]
pub enum FindSnapshotError {
    /// No snapshot matches.
    #[error("no snapshot with tag or id {0:?}: `mimeo snapshot ls` lists all snapshots")]
    NotFound(String),
    /// Several snapshots match.
    #[error("{query:?} is the beginning of several ids: {}", ids.join(", "))]
    Ambiguous {
        /// The tag or id that was looked up.
        query: String,
        /// The first 12 digits of the matching ids.
        ids: Vec<String>,
    },
    /// The snapshot exists but cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The snapshots cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Snapshot {
    /// Returns the bytes of the host's disk that the snapshot's files occupy.
    #[must_use]
    pub fn disk_usage(&self) -> u64 {
        disk_layers::disk_usage(self.manifest.files.iter().map(|file| self.dir.join(&file.name)))
    }
}

impl Snapshots {
    /// The snapshots of `home`.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { home }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The directory of a snapshot.
    #[must_use]
    pub fn dir(&self, id: &SnapshotId) -> PathBuf {
        self.home.snapshots().join(id.short())
    }

    /// All snapshots, the newest last. Unreadable ones are logged and left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Snapshot>, StoreError> {
        let mut all: Vec<_> = self.dirs()?.into_iter().filter_map(load_listed).collect();
        all.sort_by_key(|snapshot| snapshot.manifest.created);
        Ok(all)
    }

    /// Reads a snapshot by its full id.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, id: &SnapshotId) -> Result<Snapshot, LoadError> {
        let dir = self.dir(id);
        Ok(Snapshot { manifest: Manifest::load(&dir)?, dir })
    }

    /// Finds a snapshot by its tag, its id or a prefix of its id.
    ///
    /// # Errors
    /// When no snapshot matches, several do, or the matching one is damaged.
    pub fn find(&self, query: &str) -> Result<Snapshot, FindSnapshotError> {
        let all = self.list()?;
        let tagged =
            |snapshot: &&Snapshot| snapshot.manifest.tag.as_ref().is_some_and(|tag| tag.as_str() == query);
        if let Some(found) = all.iter().find(tagged) {
            return Ok(found.clone());
        }
        let mut matching: Vec<_> = all
            .into_iter()
            .filter(|snapshot| !query.is_empty() && snapshot.manifest.id.as_str().starts_with(query))
            .collect();
        match matching.len() {
            0 => Err(self.not_found(query)),
            1 => Ok(matching.remove(0)),
            _ => Err(FindSnapshotError::Ambiguous {
                query: query.to_owned(),
                ids: matching.iter().map(|snapshot| snapshot.manifest.id.short().to_owned()).collect(),
            }),
        }
    }

    /// Why no listed snapshot matches `query`: it is damaged, or does not exist.
    fn not_found(&self, query: &str) -> FindSnapshotError {
        match self.damaged_dir(query).map(|dir| Manifest::load(&dir)) {
            Some(Err(error)) => error.into(),
            _ => FindSnapshotError::NotFound(query.to_owned()),
        }
    }

    /// The directory of an unreadable snapshot that matches `query`.
    pub(super) fn damaged_dir(&self, query: &str) -> Option<PathBuf> {
        let tag = fs::read_link(self.tags().join(query)).ok();
        let named = |dir: &PathBuf| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            query.starts_with(&*name) || tag.as_ref().is_some_and(|tag| tag.as_os_str() == &*name)
        };
        self.dirs().ok()?.into_iter().find(|dir| named(dir) && Manifest::load(dir).is_err())
    }

    /// The boot snapshot with this key.
    pub(crate) fn find_boot_snapshot(&self, key: &str) -> Result<Option<Snapshot>, StoreError> {
        let is_current = |snapshot: &Snapshot| {
            snapshot.manifest.kind == Kind::Runtime
                && snapshot.manifest.tag.as_ref().is_some_and(|tag| tag.as_str() == key)
                && !self.is_retired(&snapshot.manifest.id)
        };
        Ok(self.list()?.into_iter().find(is_current))
    }

    /// Retires a boot snapshot: no new machine is started from it, and its tag is free for another.
    pub(super) fn retire(&self, id: &SnapshotId) -> io::Result<()> {
        File::create(self.retired(id)).map(drop)
    }

    /// Whether a boot snapshot is kept only for the snapshots that are built on it.
    pub(crate) fn is_retired(&self, id: &SnapshotId) -> bool {
        self.retired(id).exists()
    }

    pub(super) fn retired(&self, id: &SnapshotId) -> PathBuf {
        self.home.snapshots().join(format!("{RETIRED_PREFIX}{}", id.short()))
    }

    /// Directory of links from tags to snapshots, for snapshots whose manifest cannot be read.
    pub(super) fn tags(&self) -> PathBuf {
        self.home.snapshots().join(".tags")
    }

    /// Locks the store. Held while a snapshot enters or leaves the list.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        let path = self.home.home().join("snapshots.lock");
        let file = File::create(&path).at("lock", &path)?;
        flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        Ok(file)
    }

    /// Refuses a tag that another snapshot already has.
    ///
    /// # Errors
    /// If another snapshot has it, or they cannot be listed.
    pub fn check_tag(&self, tag: &MachineName) -> Result<(), StoreError> {
        let has_tag = |other: &Snapshot| {
            other.manifest.tag.as_ref() == Some(tag) && !self.is_retired(&other.manifest.id)
        };
        let other = self.list()?.into_iter().find(has_tag);
        match other {
            Some(other) => {
                Err(StoreError::TagTaken { tag: tag.clone(), owner: other.manifest.id.short().to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Removes abandoned drafts, partly removed snapshots, and the flattened memory and stamps of removed
    /// snapshots. Under the store's lock, a draft whose own lock is free is abandoned.
    pub(crate) fn sweep(&self) {
        let is_leftover = |dir: &PathBuf| is_draft(dir) || is_being_removed(dir);
        if self.entries().is_ok_and(|entries| entries.iter().any(is_leftover))
            && let Ok(_store_lock) = self.lock()
        {
            let leftovers = self.entries().unwrap_or_default().into_iter();
            for dir in leftovers
                .filter(|dir| is_being_removed(dir) || super::draft::is_abandoned(dir) && is_draft(dir))
            {
                remove_dir(&dir).log_leftover(&dir);
            }
        }
        super::memory::sweep(self);
        super::verify::sweep(self);
    }

    fn dirs(&self) -> Result<Vec<PathBuf>, StoreError> {
        Ok(self.entries()?.into_iter().filter(|dir| !is_hidden(dir) && dir.is_dir()).collect())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.home.snapshots();
        let entries = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        match entries {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other.at("list", &path)?),
        }
    }
}

fn load_listed(dir: PathBuf) -> Option<Snapshot> {
    match Manifest::load(&dir) {
        Ok(manifest) => Some(Snapshot { manifest, dir }),
        // It is being removed.
        Err(LoadError::Io(IoError { source, .. })) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(component = "snapshots", dir = %dir.display(), "{}", chain(&error));
            None
        }
    }
}

fn is_being_removed(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVED_PREFIX))
}

fn is_hidden(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_draft(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DRAFT_PREFIX))
}
