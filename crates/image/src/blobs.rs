//! Stores content by digest, except for layers from a registry.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::commit::{self, FileError};
use crate::digest::{Digest, HashingReader};
use crate::store::Store;

/// Stores a document under its own digest.
pub(crate) fn put(store: &Store, bytes: &[u8]) -> Result<Digest, FileError> {
    let digest = Digest::compute(bytes);
    let path = store.blob(digest);
    if !path.exists() {
        commit::write(&store.temporary(), &path, bytes)?;
    }
    Ok(digest)
}

/// Stores a reader's bytes under their digest. Returns the digest and the number of bytes.
/// With `expected`, content of another digest is not stored.
pub(crate) fn copy(
    store: &Store,
    from: impl Read,
    origin: &Path,
    expected: Option<Digest>,
) -> Result<(Digest, u64), FileError> {
    let mut file = commit::create_temporary(&store.temporary())?;
    let mut reader = HashingReader::new(from);
    io::copy(&mut reader, file.as_file_mut()).map_err(FileError::at("copy", origin))?;
    file.flush().map_err(FileError::at("write", file.path()))?;
    let (digest, size) = reader.finish();
    if expected.is_none_or(|expected| expected == digest) && !store.blob(digest).exists() {
        commit::persist(file, &store.blob(digest))?;
    }
    Ok((digest, size))
}
