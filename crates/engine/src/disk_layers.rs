//! The files of a machine's or a volume's disk: layers in one directory, each an overlay over the one before. The lowest
//! is raw.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mimeo_image::overlay::{self, Backing, BackingFormat, OverlayError};
use mimeo_vmm::DiskFormat;

use crate::io_error::{IoContext, IoError};

/// Maximum number of layers of a disk: each is an open file and one more lookup on the way to old data
/// (docs/decisions/0006-disks-of-clones.md).
pub(crate) const MAX_LAYERS: u32 = 64;

/// File name of a layer; 0 is the lowest.
pub(crate) fn layer_file_name(layer: u32) -> String {
    format!("disk-{layer}")
}

/// The number of layers of the disk in a directory.
pub(crate) fn existing_layers(dir: &Path) -> u32 {
    let exists = |layer: &u32| dir.join(layer_file_name(*layer)).exists();
    (0..).take_while(exists).count() as u32
}

/// The file that a disk with this many layers is written to, and its format.
pub(crate) fn top_layer(dir: &Path, layers: u32) -> (PathBuf, DiskFormat) {
    let format = if layers > 1 { DiskFormat::Qcow2 } else { DiskFormat::Raw };
    (dir.join(layer_file_name(layers.saturating_sub(1))), format)
}

/// Creates an empty layer above `below` others.
pub(crate) fn add_layer_file(dir: &Path, below: u32, bytes: u64) -> Result<(), OverlayError> {
    let name = layer_file_name(below.saturating_sub(1));
    let format = if below > 1 { BackingFormat::Qcow2 } else { BackingFormat::Raw };
    overlay::create(&dir.join(layer_file_name(below)), &Backing { name: &name, format }, bytes)
}

/// Why a layer could not be added.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum LayerError {
    /// It could not be created.
    Overlay(#[from] OverlayError),
    /// It could not be written to stable storage.
    Sync(#[from] IoError),
}

/// As [`add_layer_file`]; the layer is on stable storage afterwards. Without it, everything below it could not be read
/// after a crash of the host.
pub(crate) fn add_durable_layer(dir: &Path, below: u32, bytes: u64) -> Result<(), LayerError> {
    add_layer_file(dir, below, bytes)?;
    Ok(sync_file(&dir.join(layer_file_name(below)), dir)?)
}

/// Writes a new file and its name in the directory to stable storage.
pub(crate) fn sync_file(path: &Path, dir: &Path) -> Result<(), IoError> {
    [path, dir]
        .into_iter()
        .try_for_each(|path| File::open(path).and_then(|file| file.sync_all()).at("sync", path))
}

/// The bytes of the host's disk that files occupy.
pub(crate) fn disk_usage(files: impl Iterator<Item = PathBuf>) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    files.filter_map(|file| fs::symlink_metadata(file).ok()).map(|file| file.blocks() * 512).sum()
}

/// Hard-links a raw disk that never changes as the lowest layer of a disk in another directory.
pub(crate) fn link_disk(disk: &Path, to: &Path) -> Result<(), IoError> {
    fs::hard_link(disk, to.join(layer_file_name(0))).at("link", disk)
}

/// Hard-links layers that never change again into another directory.
pub(crate) fn link_layers(from: &Path, to: &Path, layers: u32) -> Result<(), IoError> {
    for name in (0..layers).map(layer_file_name) {
        let source = from.join(&name);
        fs::hard_link(&source, to.join(&name)).at("link", &source)?;
    }
    Ok(())
}
