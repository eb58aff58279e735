//! Builds a filesystem from the layers in the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::commit::{self, FileError};
use crate::digest::Digest;
use crate::ext4;
use crate::image::LayerInfo;
use crate::layer::{self, Budget, Layer, LayerError};
use crate::limits::Limits;
use crate::progress::{Event, Progress, Stage};
use crate::store::Store;
use crate::tree::Tree;

/// Must be raised when the same layers give different bytes, so that old filesystems are not reused.
const FORMAT: &str = "mimeo-rootfs-2";

/// Why no filesystem was built from an image's layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A layer is refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file of the store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The filesystem cannot be written.
    #[error("the filesystem {} cannot be written", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: mkext4::Error,
    },
}

/// The key of a filesystem: a digest of its layers' diff ids and of the format version.
pub(crate) fn rootfs_key(diff_ids: &[Digest]) -> Digest {
    let lines: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    Digest::compute(format!("{FORMAT}\n{}\n", lines.join("\n")).as_bytes())
}

/// Builds the filesystem unless it exists. Returns its key.
pub(crate) fn build(
    store: &Store,
    layers: &[LayerInfo],
    limits: &Limits,
    progress: &Arc<dyn Progress>,
) -> Result<Digest, BuildError> {
    build_with(store, layers, None, limits, progress)
}

/// Like [`build`]; the last layer's blob may be in a file outside the store.
/// A lock serialises processes that build the same one; the second finds it built.
pub(crate) fn build_with(
    store: &Store,
    layers: &[LayerInfo],
    last: Option<&Path>,
    limits: &Limits,
    progress: &Arc<dyn Progress>,
) -> Result<Digest, BuildError> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let key = rootfs_key(&diff_ids);
    let path = store.rootfs(key);
    let _lock = store.lock_content(key)?;
    if path.exists() {
        return Ok(key);
    }
    let mut blobs: Vec<PathBuf> = layers.iter().map(|layer| store.blob(layer.digest)).collect();
    if let (Some(blob), Some(last)) = (blobs.last_mut(), last) {
        *blob = last.to_owned();
    }
    let sources: Vec<_> = layers.iter().zip(&blobs).collect();
    let mut read = read_all(store, &sources, limits, progress)?;
    let tree = Tree::merge(&mut read)?;
    let file = commit::create_temporary(&store.temporary())?;
    let mut report = |done, total| progress.event(Event::Writing { done, total });
    ext4::write(&tree, &read, rootfs_uuid(key), file.as_file(), &mut report)
        .map_err(|source| BuildError::Write { path: path.clone(), source })?;
    make_read_only(&file)?;
    commit::persist(file, &path)?;
    Ok(key)
}

/// Derives a filesystem's UUID (version 8) from its key.
fn rootfs_uuid(key: Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&key.bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Makes the file read-only: many machines share it, so an accidental write must fail.
fn make_read_only(file: &tempfile::NamedTempFile) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o444))
        .map_err(FileError::at("protect", file.path()))
}

/// A layer and its blob.
type Source<'a> = (&'a LayerInfo, &'a PathBuf);

/// Reads layers whose blobs are in the store.
pub(crate) fn read_stored(
    store: &Store,
    layers: &[LayerInfo],
    limits: &Limits,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Layer>, BuildError> {
    let blobs: Vec<PathBuf> = layers.iter().map(|layer| store.blob(layer.digest)).collect();
    let sources: Vec<_> = layers.iter().zip(&blobs).collect();
    read_all(store, &sources, limits, progress)
}

/// Reads the layers in parallel, one thread per CPU.
fn read_all(
    store: &Store,
    layers: &[Source<'_>],
    limits: &Limits,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Layer>, BuildError> {
    let budget = Budget::new(limits.clone());
    let temporary = store.temporary();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, (info, blob))) = next_layer(&next, layers) {
            progress.event(unpacking(info));
            let request = layer::Request {
                blob,
                digest: info.digest,
                diff_id: Some(info.diff_id),
                spool_dir: &temporary,
                budget: &budget,
            };
            let result = layer::read(&request);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(layers.len());
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    sort_by_layer(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn next_layer<'a>(next: &AtomicUsize, layers: &[Source<'a>]) -> Option<(usize, Source<'a>)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    layers.get(index).map(|layer| (index, *layer))
}

fn unpacking(info: &LayerInfo) -> Event {
    Event::Layer { digest: info.digest, stage: Stage::Unpacking, done: 0, total: info.size }
}

/// Sorts the results by layer, so that the error of the lowest refused layer is reported, whichever thread was first.
fn sort_by_layer(mut results: Vec<(usize, Result<Layer, LayerError>)>) -> Result<Vec<Layer>, BuildError> {
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result.map_err(BuildError::Layer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_order() {
        let (a, b) = (Digest::compute(b"a"), Digest::compute(b"b"));
        assert_ne!(rootfs_key(&[a, b]), rootfs_key(&[b, a]));
        assert_eq!(rootfs_key(&[a, b]), rootfs_key(&[a, b]));
    }
}
