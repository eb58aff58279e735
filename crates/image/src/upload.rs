//! Uploads one blob: not at all if the registry has it, from another repository if it has it there, in one request, or
//! in chunks where a request's size is limited.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use oci_client::errors::OciDistributionError as ClientError;

use crate::digest::Digest;
use crate::download::blocking;
use crate::name::Repository;
use crate::progress::{Progress, Stage};
use crate::push::report;
use crate::registry::{Registry, RegistryError};

/// Bytes read from the file at once; a chunk of a chunked upload is not larger.
const READ_SIZE: usize = 1 << 20;

/// A blob of the store.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
    /// Another repository of the registry that probably has it.
    pub(crate) elsewhere: Option<Repository>,
}

/// Uploads the blob unless the registry has it.
pub(crate) async fn blob(
    registry: &Registry,
    blob: &Blob,
    progress: &Arc<dyn Progress>,
) -> Result<(), RegistryError> {
    let size = std::fs::metadata(&blob.path).map_err(|source| unreadable(blob, source))?.len();
    report(progress, blob.digest, Stage::Uploading, 0, size);
    if !registry.has_blob(blob.digest).await? && !mounted(registry, blob).await {
        send(registry, blob, size, progress).await?;
    }
    report(progress, blob.digest, Stage::Present, size, size);
    Ok(())
}

fn unreadable(blob: &Blob, source: io::Error) -> RegistryError {
    RegistryError::Source { path: blob.path.clone(), source }
}

/// Whether the registry took the blob from the other repository. If it refuses, the blob is sent.
async fn mounted(registry: &Registry, blob: &Blob) -> bool {
    let Some(elsewhere) = &blob.elsewhere else { return false };
    match registry.mount(elsewhere, blob.digest).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(digest = %blob.digest, %error, "the registry does not take the layer from elsewhere");
            false
        }
    }
}

async fn send(
    registry: &Registry,
    blob: &Blob,
    size: u64,
    progress: &Arc<dyn Progress>,
) -> Result<(), RegistryError> {
    let whole = registry.upload(blob.digest, size, || stream(blob, size, progress)).await;
    match whole {
        Err(RegistryError::Failed(error)) if may_be_too_large(&error) => {
            registry.upload_in_chunks(blob.digest, || stream(blob, size, progress)).await
        }
        done => done,
    }
}

/// A registry, or a proxy before it, replies 413 to a request that is too large, or just closes the connection.
fn may_be_too_large(error: &ClientError) -> bool {
    matches!(error, ClientError::ServerError { code: 413, .. } | ClientError::RequestError(_))
}

/// The blob's bytes. Each read reports the progress.
fn stream(
    blob: &Blob,
    size: u64,
    progress: &Arc<dyn Progress>,
) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
    let (path, digest, progress) = (blob.path.clone(), blob.digest, Arc::clone(progress));
    futures_util::stream::try_unfold((None, 0), move |(file, sent)| {
        let (path, progress) = (path.clone(), Arc::clone(&progress));
        async move {
            let (file, chunk) = blocking(move || read_chunk(file, &path)).await?;
            let sent = sent + chunk.len() as u64;
            report(&progress, digest, Stage::Uploading, sent, size);
            Ok((!chunk.is_empty()).then_some((Bytes::from(chunk), (Some(file), sent))))
        }
    })
}

fn read_chunk(file: Option<File>, path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut file = match file {
        Some(file) => file,
        None => File::open(path)?,
    };
    let mut chunk = Vec::with_capacity(READ_SIZE);
    file.by_ref().take(READ_SIZE as u64).read_to_end(&mut chunk)?;
    Ok((file, chunk))
}
