//! Downloads one layer: verified while it streams, resumed after an interruption, stored atomically.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use oci_client::client::BlobResponse;

use crate::commit::{self, FileError};
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress, Stage};
use crate::registry::{MAX_ATTEMPTS, Registry, RegistryError, retry_delay};
use crate::store::{Lock, Store};

/// Why a layer could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The registry or the connection failed.
    #[error("layer {layer} cannot be downloaded")]
    Registry {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: Box<RegistryError>,
    },
    /// The store's disk failed.
    #[error("layer {layer} cannot be stored")]
    File {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: FileError,
    },
}

enum Fault {
    Registry(RegistryError),
    File(FileError),
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The downloaded part of a layer, in a file that a later process can resume.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

/// Downloads a layer unless it is in the store. A lock serialises processes that download the same layer.
pub(crate) async fn layer(
    store: &Store,
    registry: &Registry,
    descriptor: &Descriptor,
    progress: &Arc<dyn Progress>,
) -> Result<(), DownloadError> {
    let layer = descriptor.digest;
    let report =
        |stage, done| progress.event(Event::Layer { digest: layer, stage, done, total: descriptor.size });
    let path = store.blob(layer);
    if !path.exists() {
        let done = fetch(store, registry, descriptor, &report).await;
        done.map_err(|fault| match fault {
            Fault::Registry(source) => DownloadError::Registry { layer, source: Box::new(source) },
            Fault::File(source) => DownloadError::File { layer, source },
        })?;
    }
    report(Stage::Present, descriptor.size);
    Ok(())
}

async fn fetch(
    store: &Store,
    registry: &Registry,
    descriptor: &Descriptor,
    report: &impl Fn(Stage, u64),
) -> Result<(), Fault> {
    let _lock = lock(store, descriptor.digest).await?;
    let path = store.blob(descriptor.digest);
    if path.exists() {
        return Ok(());
    }
    let partial_path = store.partial_blob(descriptor.digest);
    let mut partial = blocking(move || Partial::open(partial_path)).await?;
    let was_resumed = partial.length > 0;
    match complete(registry, descriptor, &mut partial, report).await {
        // The part of an earlier download may have been wrong: restart from the beginning, once.
        Err(Fault::Registry(RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. }))
            if was_resumed =>
        {
            partial.restart()?;
            complete(registry, descriptor, &mut partial, report).await?;
        }
        done => done?,
    }
    blocking(move || partial.finish(&path)).await?;
    Ok(())
}

async fn lock(store: &Store, digest: Digest) -> Result<Lock, FileError> {
    let store = store.clone();
    blocking(move || store.lock_content(digest)).await
}

/// Runs blocking work on the blocking thread pool.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Sends requests until all bytes have arrived. Gives up after [`MAX_ATTEMPTS`] consecutive attempts without progress.
async fn complete(
    registry: &Registry,
    descriptor: &Descriptor,
    partial: &mut Partial,
    report: &impl Fn(Stage, u64),
) -> Result<(), Fault> {
    let mut stalled_attempts = 0;
    while partial.length < descriptor.size {
        let before = partial.length;
        match request_bytes(registry, descriptor, partial, report).await {
            Err(Fault::Registry(error)) if should_retry(&error, partial.length, before, stalled_attempts) => {
                report(Stage::Retrying, partial.length);
                tracing::debug!(layer = %descriptor.digest, have = partial.length, %error, "download interrupted");
                tokio::time::sleep(retry_delay(stalled_attempts)).await;
                stalled_attempts = if partial.length > before { 0 } else { stalled_attempts + 1 };
            }
            done => done?,
        }
    }
    partial.verify(descriptor)
}

fn should_retry(error: &RegistryError, length: u64, before: u64, stalled_attempts: u32) -> bool {
    // A registry that has replied before is worth a retry, even if it is unreachable now.
    let is_temporary = error.is_transient() || (matches!(error, RegistryError::Unreachable(_)) && before > 0);
    is_temporary && (length > before || stalled_attempts + 1 < MAX_ATTEMPTS)
}

/// Sends one request and receives its bytes.
async fn request_bytes(
    registry: &Registry,
    descriptor: &Descriptor,
    partial: &mut Partial,
    report: &impl Fn(Stage, u64),
) -> Result<(), Fault> {
    let stream = match registry.blob(descriptor.digest, partial.length).await? {
        BlobResponse::Partial(stream) => stream,
        BlobResponse::Full(stream) => {
            partial.restart()?;
            stream
        }
    };
    receive(stream, descriptor, partial, report).await
}

async fn receive(
    mut stream: impl Stream<Item = io::Result<impl AsRef<[u8]>>> + Unpin,
    descriptor: &Descriptor,
    partial: &mut Partial,
    report: &impl Fn(Stage, u64),
) -> Result<(), Fault> {
    let before = partial.length;
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // The client verifies a full reply too, and reports a mismatch as an error at its end. `verify`
            // checks the content below.
            Err(_) if partial.length == descriptor.size => break,
            Err(source) => return Err(RegistryError::Interrupted { attempts: MAX_ATTEMPTS, source }.into()),
        };
        partial.push(chunk.as_ref(), descriptor)?;
        report(Stage::Downloading, partial.length);
    }
    if partial.length == before {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(RegistryError::Interrupted { attempts: MAX_ATTEMPTS, source }.into());
    }
    Ok(())
}

impl Partial {
    /// Opens the partial file of an earlier download, or creates one.
    fn open(path: PathBuf) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileError::at("open", &path))?;
        let (hasher, length) = hash(&mut file).map_err(FileError::at("read", &path))?;
        Ok(Self { path, file, hasher, length })
    }

    fn restart(&mut self) -> Result<(), FileError> {
        self.file.set_len(0).map_err(FileError::at("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(FileError::at("rewind", &self.path))?;
        self.hasher = Hasher::default();
        self.length = 0;
        Ok(())
    }

    fn push(&mut self, bytes: &[u8], descriptor: &Descriptor) -> Result<(), Fault> {
        let actual = self.length + bytes.len() as u64;
        if actual > descriptor.size {
            self.restart()?;
            return Err(RegistryError::WrongSize { expected: descriptor.size, actual }.into());
        }
        self.file.write_all(bytes).map_err(FileError::at("write", &self.path))?;
        self.hasher.update(bytes);
        self.length = actual;
        Ok(())
    }

    /// Verifies size and digest. Wrong content is discarded: resuming from it could only fail again.
    fn verify(&mut self, descriptor: &Descriptor) -> Result<(), Fault> {
        if self.length != descriptor.size {
            let (expected, actual) = (descriptor.size, self.length);
            self.restart()?;
            return Err(RegistryError::WrongSize { expected, actual }.into());
        }
        let actual = self.hasher.clone().finish();
        if actual != descriptor.digest {
            self.restart()?;
            return Err(RegistryError::WrongDigest { expected: descriptor.digest, actual }.into());
        }
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<(), FileError> {
        self.file.sync_all().map_err(FileError::at("sync", &self.path))?;
        std::fs::rename(&self.path, path).map_err(FileError::at("rename", &self.path))?;
        commit::sync_parent(path)
    }
}

fn hash(file: &mut File) -> io::Result<(Hasher, u64)> {
    let mut hasher = Hasher::default();
    let mut length = 0;
    let mut buf = vec![0; 256 << 10];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok((hasher, length)),
            n => {
                hasher.update(&buf[..n]);
                length += n as u64;
            }
        }
    }
}
