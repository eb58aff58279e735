//! Archives that `save` and `push` write: whole or not at all, even when a signal ends the command.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use mimeo_image::{Digest, ExportFormat, Exported, Store};

use crate::error::CliError;
use crate::interruption::Interruption;
use crate::whole_file::{create_beside, destination, is_special};

/// Writes an archive. Returns the digests of the manifests.
pub(super) async fn write(
    store: Store,
    images: Vec<Exported>,
    format: ExportFormat,
    path: &Path,
) -> Result<Vec<Digest>, CliError> {
    if !is_special(path) {
        return write_whole(store, images, format, path).await;
    }
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || write_in_place(&store, &images, format, &path)).await?
}

/// Writes an archive to a pipe or a device.
fn write_in_place(
    store: &Store,
    images: &[Exported],
    format: ExportFormat,
    path: &Path,
) -> Result<Vec<Digest>, CliError> {
    let file = File::options().write(true).open(path);
    let file = file.map_err(|source| CliError::io(format!("open {}", path.display()), source))?;
    Ok(store.export_archive(images, format, BufWriter::new(file))?)
}

/// Writes an archive beside its place, and renames it.
async fn write_whole(
    store: Store,
    images: Vec<Exported>,
    format: ExportFormat,
    path: &Path,
) -> Result<Vec<Digest>, CliError> {
    let io = |source| CliError::io(format!("write {}", path.display()), source);
    let mut interruption = Interruption::listen();
    let destination = destination(path);
    let (file, temporary) = create_beside(&destination).map_err(io)?.into_parts();
    let work = tokio::task::spawn_blocking(move || export(&store, &images, format, &file));
    tokio::select! {
        signal = interruption.received() => {
            drop(temporary);
            Err(CliError::usage("interrupted").with_code(128 + signal))
        }
        exported = work => {
            let digests = exported??;
            temporary.persist(&destination).map_err(|error| io(error.error))?;
            Ok(digests)
        }
    }
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
