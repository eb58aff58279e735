//! Archives that `save` and `push` write: whole or not at all, even when a signal ends the command.

use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mimeo_image::{Digest, ExportFormat, Exported, Store};
use tempfile::{Builder, NamedTempFile};

use crate::error::CliError;
use crate::interruption::Interruption;

/// Writes an archive beside its place, and renames it. Returns the digests of the manifests.
pub(super) async fn write(
    store: Store,
    images: Vec<Exported>,
    format: ExportFormat,
    path: &Path,
) -> Result<Vec<Digest>, CliError> {
    let io = |source| CliError::io(format!("write {}", path.display()), source);
    let mut interruption = Interruption::listen();
    let (file, temporary) = create(path).map_err(io)?.into_parts();
    let work = tokio::task::spawn_blocking(move || export(&store, &images, format, &file));
    tokio::select! {
        signal = interruption.received() => {
            drop(temporary);
            Err(CliError::usage("interrupted").with_code(128 + signal))
        }
        exported = work => {
            let digests = exported??;
            temporary.persist(path).map_err(|error| io(error.error))?;
            Ok(digests)
        }
    }
}

fn create(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // With the permissions of any new file: the umask applies.
    Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

fn export(
    store: &Store,
    images: &[Exported],
    format: ExportFormat,
    file: &File,
) -> Result<Vec<Digest>, CliError> {
    let digests = store.export_archive(images, format, BufWriter::new(file))?;
    file.sync_all().map_err(|source| CliError::io("sync the archive", source))?;
    Ok(digests)
}
