//! Directories with docker's manifest: `version`, `manifest.json`, and each blob under its hex digits.

use std::path::Path;

use super::files::Files;
use super::{Loaded, LocalError, docker};
use crate::blobs;
use crate::digest::Digest;
use crate::manifest::{self, DocumentError, Parsed};
use crate::store::Store;

/// The file that tells this kind from an archive by `docker save`.
pub(crate) const VERSION: &str = "version";

/// Copies the image. It has no name.
pub(super) fn load(store: &Store, files: &Files) -> Result<Loaded, LocalError> {
    let bytes = files.bytes(docker::MANIFEST)?;
    let digest = blobs::put(store, &bytes)?;
    let manifest = match manifest::parse(&bytes, digest)? {
        Parsed::Image(manifest) => manifest,
        Parsed::Index(_) => return Err(DocumentError::TooDeep { limit: 0 }.into()),
    };
    let config = files.bytes(&manifest.config.digest.hex())?;
    check(&manifest.config.digest.hex(), manifest.config.digest, blobs::put(store, &config)?)?;
    for layer in &manifest.layers {
        let member = layer.digest.hex();
        let (actual, _) = blobs::copy(store, files.open(&member)?, Path::new(&member), Some(layer.digest))?;
        check(&member, layer.digest, actual)?;
    }
    Ok(Loaded { manifest, digest, config, names: Vec::new() })
}

fn check(member: &str, expected: Digest, actual: Digest) -> Result<(), LocalError> {
    if actual == expected {
        Ok(())
    } else {
        Err(LocalError::WrongDigest { member: member.to_owned(), actual })
    }
}
