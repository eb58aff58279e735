//! Logs the latest output of a machine's console.

use std::path::PathBuf;

use tokio::fs::{File, OpenOptions, rename};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// File size at which the file is renamed to `.1` and a new one is started: a guest must not fill the host's
/// disk by its console.
const MAX_BYTES: u64 = 1024 * 1024;

/// Copies `source` to the file until its end. Output that cannot be written is lost; the machine keeps
/// running.
pub(crate) async fn copy_to_file<R: AsyncRead + Unpin>(mut source: R, path: PathBuf) {
    let Ok(mut file) = open(&path).await else {
        tracing::warn!(path = %path.display(), "cannot write the console's log");
        return drain(source).await;
    };
    let mut written = 0;
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        if file.write_all(&buffer[..count]).await.is_err() {
            return drain(source).await;
        }
        // Output that cannot be written is lost: to log each loss would let a guest fill the log instead.
        file.flush().await.ok();
        written += count as u64;
        if written > MAX_BYTES {
            if let Err(error) = rename(&path, path.with_extension("log.1")).await {
                tracing::debug!(path = %path.display(), %error, "cannot rotate the console's log");
            }
            match open(&path).await {
                Ok(new) => file = new,
                Err(_) => return drain(source).await,
            }
            written = 0;
        }
    }
}

async fn open(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).await
}

async fn drain<R: AsyncRead + Unpin>(mut source: R) {
    // Output that nothing reads would block the VMM. An error is the end of the output.
    tokio::io::copy(&mut source, &mut tokio::io::sink()).await.ok();
}
