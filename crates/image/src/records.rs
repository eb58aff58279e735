//! The store's records: one file per image, one per name. An unreadable record is set aside, never deleted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::commit::{self, FileError};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::image::{Image, LayerInfo};
use crate::store::Store;

/// The record's format version. A record of another version is set aside like an unreadable one.
const FORMAT: u32 = 1;
pub(crate) const SET_ASIDE_MARK: &str = ".corrupt-";

/// The record of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    format: u32,
    pub(crate) id: Digest,
    pub(crate) digest: Digest,
    pub(crate) created: Option<jiff::Timestamp>,
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) size: u64,
    pub(crate) layers: Vec<LayerInfo>,
    pub(crate) config: ImageConfig,
    pub(crate) rootfs_key: Digest,
}

impl ImageRow {
    /// Creates a row of the current format.
    pub(crate) fn new(image: &Image, rootfs_key: Digest) -> Self {
        Self {
            format: FORMAT,
            id: image.id,
            digest: image.digest,
            created: image.created,
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            size: image.size,
            layers: image.layers.clone(),
            config: image.config.clone(),
            rootfs_key,
        }
    }

    fn into_image(self, store: &Store, names: Vec<String>) -> Image {
        Image {
            id: self.id,
            names,
            digest: self.digest,
            created: self.created,
            architecture: self.architecture,
            os: self.os,
            size: self.size,
            layers: self.layers,
            config: self.config,
            rootfs: store.rootfs(self.rootfs_key),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NameRow {
    format: u32,
    name: String,
    id: Digest,
}

/// All records, and the files that were set aside because they could not be read.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) rows: BTreeMap<Digest, ImageRow>,
    /// Image id by name, only for images that exist.
    pub(crate) names: BTreeMap<String, Digest>,
    /// Records that were set aside, now or earlier.
    pub(crate) set_aside: Vec<PathBuf>,
}

impl Records {
    pub(crate) fn image(&self, store: &Store, id: Digest) -> Option<Image> {
        let row = self.rows.get(&id)?.clone();
        Some(row.into_image(store, self.names_of(id)))
    }

    pub(crate) fn images(&self, store: &Store) -> Vec<Image> {
        self.rows.keys().filter_map(|id| self.image(store, *id)).collect()
    }

    pub(crate) fn names_of(&self, id: Digest) -> Vec<String> {
        self.names.iter().filter(|(_, target)| **target == id).map(|(name, _)| name.clone()).collect()
    }
}

/// Reads all records.
pub(crate) fn load(store: &Store) -> Result<Records, FileError> {
    let mut records = Records::default();
    for row in read_folder::<ImageRow>(&store.images(), &mut records.set_aside)? {
        records.rows.insert(row.id, row);
    }
    for row in read_folder::<NameRow>(&store.names(), &mut records.set_aside)? {
        if records.rows.contains_key(&row.id) {
            records.names.insert(row.name, row.id);
        }
    }
    Ok(records)
}

/// Records an image under names. Names of other images move to it.
pub(crate) fn save(store: &Store, row: &ImageRow, names: &[String]) -> Result<(), FileError> {
    let _lock = store.lock_records()?;
    write(store, &image_path(store, row.id), row)?;
    names.iter().try_for_each(|name| save_name(store, name, row.id))
}

/// Gives a name to an image. The caller holds the lock of the records.
pub(crate) fn save_name(store: &Store, name: &str, id: Digest) -> Result<(), FileError> {
    write(store, &name_path(store, name), &NameRow { format: FORMAT, name: name.to_owned(), id })
}

pub(crate) fn image_path(store: &Store, id: Digest) -> PathBuf {
    store.images().join(format!("{}.json", id.hex()))
}

pub(crate) fn name_path(store: &Store, name: &str) -> PathBuf {
    store.names().join(format!("{}.json", Digest::compute(name.as_bytes()).hex()))
}

fn write<T: Serialize>(store: &Store, path: &Path, row: &T) -> Result<(), FileError> {
    let bytes = serde_json::to_vec_pretty(row).map_err(|e| FileError::at("encode", path)(e.into()))?;
    commit::write(&store.temporary(), path, &bytes)
}

fn read_folder<T: DeserializeOwned>(
    folder: &Path,
    set_aside: &mut Vec<PathBuf>,
) -> Result<Vec<T>, FileError> {
    let mut rows = Vec::new();
    for path in files(folder)? {
        if is_set_aside(&path) {
            set_aside.push(path);
        } else if let Some(row) = read_row(&path, set_aside)? {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The folder's files, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries =
        fs::read_dir(folder).and_then(|dir| dir.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = entries.map_err(FileError::at("list", folder))?;
    paths.sort();
    Ok(paths)
}

fn is_set_aside(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(SET_ASIDE_MARK))
}

fn read_row<T: DeserializeOwned>(path: &Path, set_aside: &mut Vec<PathBuf>) -> Result<Option<T>, FileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Another process removed it after the folder was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at("read", path)(error)),
    };
    match parse(&bytes) {
        Some(row) => Ok(Some(row)),
        None => move_aside(path).map(|to| {
            set_aside.extend(to);
            None
        }),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    if value.get("format")?.as_u64()? != u64::from(FORMAT) {
        return None;
    }
    serde_json::from_value(value).ok()
}

/// Renames an unreadable record to keep it. None if another process has moved it.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to =
        path.with_file_name(format!("{name}{SET_ASIDE_MARK}{}", jiff::Timestamp::now().as_millisecond()));
    match fs::rename(path, &to) {
        Ok(()) => {
            tracing::warn!(record = %path.display(), kept = %to.display(), "unreadable image record set aside");
            Ok(Some(to))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at("set aside", path)(error)),
    }
}
