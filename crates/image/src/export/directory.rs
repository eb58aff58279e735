//! Directories with docker's manifest: `version`, `manifest.json`, and each blob under its hex digits.

use super::manifest::{self, Family};
use super::sink::{Folder, Sink};
use super::{ExportError, Exported};
use crate::digest::Digest;
use crate::local::{DOCKER_MANIFEST, VERSION};
use crate::store::Store;

const VERSION_TEXT: &[u8] = b"Directory Transport Version: 1.1\n";

/// Writes the image. A directory of this kind is replaced.
pub(super) fn write(store: &Store, exported: &Exported, folder: &mut Folder) -> Result<Digest, ExportError> {
    if folder.existing(VERSION)?.is_none() && !folder.is_empty()? {
        return Err(ExportError::Occupied { path: folder.root().to_owned() });
    }
    manifest::check_complete(store, &exported.image)?;
    let document = manifest::of_family(store, &exported.image, Family::Docker)?;
    folder.add_bytes(VERSION, VERSION_TEXT)?;
    for (digest, path) in manifest::blobs(store, &exported.image) {
        folder.add_blob(&digest.hex(), digest, &path)?;
    }
    folder.add_bytes(DOCKER_MANIFEST, &document.bytes)?;
    Ok(document.digest)
}
