//! Archives that `save` and `push` write: whole or not at all.

use std::fs::Permissions;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mimeo_image::{Digest, ExportFormat, Exported, Store};
use tempfile::Builder;

use crate::error::CliError;

/// Writes an archive beside its place, and renames it. Returns the digests of the manifests.
pub(super) fn write(
    store: &Store,
    images: &[Exported],
    format: ExportFormat,
    path: &Path,
) -> Result<Vec<Digest>, CliError> {
    let io = |source| CliError::io(format!("write {}", path.display()), source);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // With the permissions of any new file: the umask applies.
    let mut file =
        Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder).map_err(io)?;
    let digests = store.export_archive(images, format, BufWriter::new(file.as_file_mut()))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(digests)
}
