//! Named volumes: disks that outlive machines. Each has a directory, with its record and the layers of its disk.
//!
//! A volume holds an ext4 filesystem, which a guest mounts. One machine at a time may write to it, or several may read
//! it. A new volume has no disk: the first machine that uses it makes one.

mod journal;
mod lock;
mod name;
mod record;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mimeo_image::blank;
use rustix::fs::{FlockOperation, flock};

use crate::Home;
use crate::cause::chain;
use crate::disk_layers::{
    LayerError, add_durable_layer, disk_usage, existing_layers, layer_file_name, sync_file,
};
use crate::ignored::LogIgnored;
use crate::io_error::{IoContext, IoError};
pub(crate) use lock::{Access, VolumeLock};
pub use name::{ParseVolumeNameError, VolumeName};
pub use record::Volume;

/// Prefix of the directories of volumes that are being created or removed.
const UNFINISHED: &str = ".new-";
/// Locked while a volume is created or removed.
const STORE_LOCK: &str = ".lock";
/// The name of a volume's disk until it is complete.
const DISK_DRAFT: &str = "disk.new";
/// The unit of a filesystem's size.
const BLOCK: u64 = 4096;
/// Size of a volume's filesystem, unless another one is requested. The host's disk is used only for what is written.
const DEFAULT_BYTES: u64 = 64 << 30;
/// The smallest filesystem: ext4 with a journal.
const MIN_BYTES: u64 = 64 << 20;
/// The largest file of an ext4 filesystem, which may hold the disk.
const MAX_BYTES: u64 = 14 << 40;

/// The volumes of a home directory.
#[derive(Debug, Clone)]
pub struct Volumes {
    home: Home,
}

/// A volume as the user requests it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Its name; a random one by default.
    pub name: Option<VolumeName>,
    /// Labels to find it by.
    pub labels: BTreeMap<String, String>,
    /// The options as the user gave them, to be shown.
    pub options: BTreeMap<String, String>,
    /// Size of its filesystem in bytes, 64 GiB by default.
    pub bytes: Option<u64>,
}

/// Why an operation on volumes failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is a volume of that name. The text is podman's: scripts look for it.
    #[error("volume with name {name} already exists: volume already exists")]
    Exists {
        /// The name.
        name: VolumeName,
    },
    /// No volume matches. The text is podman's.
    #[error("no volume with name {query:?} found: no such volume")]
    NotFound {
        /// What was looked for.
        query: String,
    },
    /// Several volumes match.
    #[error("{query:?} is the beginning of the names of several volumes: {}", names.iter().map(VolumeName::as_str).collect::<Vec<_>>().join(", "))]
    Several {
        /// What was looked for.
        query: String,
        /// Their names.
        names: Vec<VolumeName>,
    },
    /// Its filesystem cannot have this size.
    #[error("the size of a volume must be between {MIN_BYTES} and {MAX_BYTES} bytes, not {bytes}")]
    Size {
        /// The requested size.
        bytes: u64,
    },
    /// A machine uses it. The text is podman's.
    #[error("volume {name} is being used by the following container(s): {}: volume is being used", users.join(", "))]
    InUse {
        /// Its name.
        name: VolumeName,
        /// The machines, by their ids.
        users: Vec<String>,
    },
    /// Its record cannot be parsed.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The record's path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A later version of mimeo has made it.
    #[error("{} has format {format}, but this mimeo knows formats up to {known}: use a newer one", path.display())]
    NewerFormat {
        /// The record's path.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest known format.
        known: u32,
    },
    /// Its disk could not be created.
    #[error(transparent)]
    Disk(#[from] blank::BlankError),
    /// A layer of its disk could not be created.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An operation on a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl VolumeRequest {
    /// Decides the volume's name, size and time of creation. Nothing is created yet.
    ///
    /// # Errors
    /// If its filesystem cannot have the requested size.
    pub fn plan(self) -> Result<Volume, VolumeError> {
        let name = self.name.unwrap_or_else(VolumeName::random);
        // A layer of another size than the filesystem's would cut its last block.
        let bytes = self.bytes.unwrap_or(DEFAULT_BYTES).next_multiple_of(BLOCK);
        if !(MIN_BYTES..=MAX_BYTES).contains(&bytes) {
            return Err(VolumeError::Size { bytes });
        }
        let mut volume = Volume::new(name, bytes);
        (volume.labels, volume.options) = (self.labels, self.options);
        Ok(volume)
    }
}

impl Volumes {
    pub(crate) fn new(home: Home) -> Self {
        Self { home }
    }

    /// Returns a volume's directory.
    #[must_use]
    pub fn dir(&self, name: &VolumeName) -> PathBuf {
        self.home.volumes().join(name)
    }

    /// Lists all volumes by name. One whose record cannot be read is logged and left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let mut found = Vec::new();
        for dir in self.entries()?.into_iter().filter(|dir| !is_hidden(dir)) {
            match Volume::load(&dir) {
                Ok(volume) => found.extend(volume),
                Err(error) => tracing::warn!(component = "volumes", "{}", chain(&error)),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Reads a volume by its name; `None` if it does not exist.
    ///
    /// # Errors
    /// If its record cannot be read.
    pub fn read(&self, name: &VolumeName) -> Result<Option<Volume>, VolumeError> {
        Volume::load(&self.dir(name))
    }

    /// Finds the one volume that has this name, or whose name alone begins with it.
    ///
    /// # Errors
    /// If none matches, or more than one.
    pub fn find(&self, query: &str) -> Result<Volume, VolumeError> {
        let mut matching = self.list()?;
        matching.retain(|volume| !query.is_empty() && volume.name.as_str().starts_with(query));
        if let Some(exact) = matching.iter().find(|volume| volume.name.as_str() == query) {
            return Ok(exact.clone());
        }
        match matching.len() {
            0 => Err(VolumeError::NotFound { query: query.to_owned() }),
            1 => Ok(matching.remove(0)),
            _ => {
                let names = matching.into_iter().map(|volume| volume.name).collect();
                Err(VolumeError::Several { query: query.to_owned(), names })
            }
        }
    }

    /// Creates a volume.
    ///
    /// # Errors
    /// If there is one of that name, or it cannot be written.
    pub fn create(&self, request: VolumeRequest) -> Result<Volume, VolumeError> {
        self.create_planned(request.plan()?)
    }

    /// Creates a volume that was planned.
    ///
    /// # Errors
    /// If there is one of that name, or it cannot be written.
    pub fn create_planned(&self, volume: Volume) -> Result<Volume, VolumeError> {
        let _store_lock = self.lock()?;
        if self.read(&volume.name)?.is_some() {
            return Err(VolumeError::Exists { name: volume.name });
        }
        self.create_locked(volume)
    }

    /// Returns the volume of that name, which is created if there is none.
    pub(crate) fn ensure(&self, name: &VolumeName) -> Result<Volume, VolumeError> {
        if let Some(volume) = self.read(name)? {
            return Ok(volume);
        }
        let _store_lock = self.lock()?;
        match self.read(name)? {
            Some(volume) => Ok(volume),
            None => self.create_locked(Volume::new(name.clone(), DEFAULT_BYTES)),
        }
    }

    fn create_locked(&self, volume: Volume) -> Result<Volume, VolumeError> {
        let (dir, draft) = (self.dir(&volume.name), self.unfinished(&volume.name));
        remove_dir(&draft)?;
        fs::create_dir(&draft).at("create", &draft)?;
        let created = volume.store(&draft).and_then(|()| Ok(fs::rename(&draft, &dir).at("rename", &draft)?));
        if created.is_err() {
            fs::remove_dir_all(&draft).log_leftover(&draft);
        }
        created.map(|()| volume)
    }

    /// Locks a volume for a machine; `None` if another one uses it in a way that does not allow it. A volume that was
    /// removed meanwhile is created again.
    pub(crate) fn attach(
        &self,
        name: &VolumeName,
        access: Access,
    ) -> Result<Option<VolumeLock>, VolumeError> {
        let dir = self.dir(name);
        loop {
            self.ensure(name)?;
            match VolumeLock::acquire(&dir, access) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(Some(lock)) if !lock.is_in(&dir) => {}
                locked => return Ok(locked.at("lock", &dir)?),
            }
        }
    }

    /// Creates the disk of a volume that the caller has locked exclusively, unless it has one. Returns its number of
    /// layers.
    pub(crate) fn ensure_disk(&self, volume: &Volume) -> Result<u32, VolumeError> {
        let dir = self.dir(&volume.name);
        let layers = existing_layers(&dir);
        if layers == 0 {
            self.create_disk(&dir, volume.bytes)?;
        }
        Ok(layers.max(1))
    }

    /// Creates the disk under another name: one that is only partly written is made again.
    fn create_disk(&self, dir: &Path, bytes: u64) -> Result<(), VolumeError> {
        let (draft, disk) = (dir.join(DISK_DRAFT), dir.join(layer_file_name(0)));
        fs::remove_file(&draft).log_ignored("remove", &draft);
        blank::create_from_template(&self.home.templates(), &draft, bytes)?;
        sync_file(&draft, dir)?;
        fs::rename(&draft, &disk).at("rename", &draft)?;
        Ok(sync_file(&disk, dir)?)
    }

    /// Returns whether a guest can mount the volume's disk without writing to it: it has one, and its journal is empty.
    pub(crate) fn is_mountable_read_only(&self, name: &VolumeName) -> Result<bool, VolumeError> {
        let dir = self.dir(name);
        match existing_layers(&dir) {
            0 => Ok(false),
            layers => Ok(!journal::needs_recovery(&dir, layers).at("read the disk in", &dir)?),
        }
    }

    /// Makes sure that nothing is ever written again to these layers of a disk which machines read: whatever writes to
    /// it later adds to the layer above.
    pub(crate) fn seal(&self, dir: &Path, layers: u32, bytes: u64) -> Result<(), VolumeError> {
        let _store_lock = self.lock()?;
        if existing_layers(dir) == layers {
            add_durable_layer(dir, layers, bytes)?;
        }
        Ok(())
    }

    /// Returns whether the volume has a disk: a machine has used it.
    #[must_use]
    pub fn has_disk(&self, name: &VolumeName) -> bool {
        existing_layers(&self.dir(name)) > 0
    }

    /// Returns the bytes of the host's disk that the volume occupies.
    #[must_use]
    pub fn disk_usage(&self, name: &VolumeName) -> u64 {
        let files = fs::read_dir(self.dir(name)).into_iter().flatten().flatten();
        disk_usage(files.map(|file| file.path()))
    }

    /// Removes a volume, unless a machine uses it. The caller holds the lock of the store, and knows that no machine refers
    /// to the volume. Returns whether it was removed.
    pub(crate) fn remove(&self, name: &VolumeName) -> Result<bool, VolumeError> {
        let (dir, hidden) = (self.dir(name), self.unfinished(name));
        remove_dir(&hidden)?;
        // A machine that locks the volume after this finds that it was removed.
        let Some(_lock) = VolumeLock::acquire(&dir, Access::Exclusive).at("lock", &dir)? else {
            return Ok(false);
        };
        fs::rename(&dir, &hidden).at("remove", &dir)?;
        remove_dir(&hidden).map(|()| true)
    }

    /// Locks the store: no volume is created or removed meanwhile.
    pub(crate) fn lock(&self) -> Result<File, VolumeError> {
        let path = self.home.volumes().join(STORE_LOCK);
        let file = File::create(&path).at("lock", &path)?;
        flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        Ok(file)
    }

    /// Removes what processes have left that were killed while they created or removed a volume.
    pub(crate) fn sweep(&self) {
        let unfinished = || {
            let entries = self.entries().unwrap_or_default().into_iter();
            entries.filter(|dir| is_unfinished(dir)).collect::<Vec<_>>()
        };
        if unfinished().is_empty() {
            return;
        }
        // A process that cannot take this lock cannot create a volume either, and reports that then.
        let Ok(_store_lock) = self.lock() else { return };
        for dir in unfinished() {
            fs::remove_dir_all(&dir).log_leftover(&dir);
        }
    }

    fn entries(&self) -> Result<Vec<PathBuf>, VolumeError> {
        let path = self.home.volumes();
        let entries = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()
        });
        Ok(entries.at("list", &path)?)
    }

    fn unfinished(&self, name: &VolumeName) -> PathBuf {
        // A name of 255 characters leaves no space for a prefix.
        let digits = blake3::hash(name.as_str().as_bytes()).to_hex();
        self.home.volumes().join(format!("{UNFINISHED}{}", &digits[..16]))
    }
}

fn is_hidden(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_unfinished(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

fn remove_dir(dir: &Path) -> Result<(), VolumeError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.at("remove", dir)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
        (dir, Volumes::new(home))
    }

    fn request(name: &str) -> VolumeRequest {
        VolumeRequest { name: Some(name.parse().expect("a name")), ..VolumeRequest::default() }
    }

    #[test]
    fn a_volume_is_found_until_it_is_removed() {
        let (_dir, volumes) = volumes();
        let created = volumes.create(request("data")).expect("created");
        assert_eq!(volumes.find("data").expect("found"), created);
        assert_eq!(volumes.find("da").expect("found"), created);
        assert!(matches!(volumes.create(request("data")), Err(VolumeError::Exists { .. })));
        assert_eq!(volumes.ensure(&created.name).expect("found"), created);
        volumes.create(request("data-2")).expect("created");
        assert_eq!(volumes.find("data").expect("the exact name"), created);
        assert!(matches!(volumes.find("dat"), Err(VolumeError::Several { .. })));
        volumes.remove(&created.name).expect("removed");
        assert!(matches!(volumes.find("data-1"), Err(VolumeError::NotFound { .. })));
        assert_eq!(volumes.list().expect("listed").len(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_swept() {
        let (_dir, volumes) = volumes();
        let name = volumes.create(request("data")).expect("created").name;
        fs::rename(volumes.dir(&name), volumes.unfinished(&name)).expect("renamed");
        assert_eq!(volumes.list().expect("listed"), []);
        volumes.sweep();
        assert_eq!(volumes.entries().expect("listed").iter().filter(|dir| is_unfinished(dir)).count(), 0);
    }

    #[test]
    fn a_volume_in_use_is_not_removed() {
        let (_dir, volumes) = volumes();
        let name = volumes.create(request("data")).expect("created").name;
        let lock = volumes.attach(&name, Access::Shared).expect("tried").expect("locked");
        assert!(!volumes.remove(&name).expect("tried"));
        drop(lock);
        assert!(volumes.remove(&name).expect("removed"));
        let lock = volumes.attach(&name, Access::Exclusive).expect("tried").expect("locked");
        assert!(lock.is_in(&volumes.dir(&name)));
        assert!(volumes.attach(&name, Access::Shared).expect("tried").is_none());
    }

    #[test]
    fn a_disk_is_made_once() {
        let (_dir, volumes) = volumes();
        let volume = volumes.create(request("data")).expect("created");
        assert!(volumes.disk_usage(&volume.name) > 0);
        let _lock = volumes.attach(&volume.name, Access::Exclusive).expect("tried").expect("locked");
        assert!(volumes.attach(&volume.name, Access::Shared).expect("tried").is_none());
        assert_eq!(volumes.ensure_disk(&volume).expect("made"), 1);
        assert_eq!(volumes.ensure_disk(&volume).expect("there"), 1);
    }

    #[test]
    fn a_record_of_a_later_format_is_refused() {
        let (_dir, volumes) = volumes();
        let name = volumes.create(request("data")).expect("created").name;
        let path = volumes.dir(&name).join("volume.json");
        fs::write(&path, "{\"format\": 99}").expect("written");
        assert!(matches!(volumes.read(&name), Err(VolumeError::NewerFormat { format: 99, .. })));
        fs::write(&path, "{").expect("written");
        assert!(matches!(volumes.read(&name), Err(VolumeError::Damaged { .. })));
        assert_eq!(volumes.list().expect("listed"), []);
    }
}
