//! Logs the latest output of a machine's console.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions, rename};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// File size at which the file is renamed to `.1` and a new one is started: a guest must not fill the host's
/// disk by its console.
const MAX_BYTES: u64 = 1024 * 1024;

/// Copies `source` to the file until its end. Output that cannot be written is lost, and the machine keeps
/// running: output that nothing reads would block the VMM. To log each loss would let a guest fill the log
/// instead.
pub(crate) async fn copy_to_file<R: AsyncRead + Unpin>(mut source: R, path: PathBuf) {
    let mut log = ConsoleLog { path, file: None, written: 0 };
    let mut buffer = vec![0; 8192];
    let mut failed = false;
    // An error is the end of the output.
    while let Ok(count @ 1..) = source.read(&mut buffer).await {
        let result = log.append(&buffer[..count]).await;
        if let (Err(error), false) = (&result, failed) {
            tracing::warn!(path = %log.path.display(), %error, "the console's output is missing from its log");
        }
        failed = result.is_err();
    }
}

struct ConsoleLog {
    path: PathBuf,
    /// The current file, if it could be opened.
    file: Option<File>,
    written: u64,
}

impl ConsoleLog {
    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > MAX_BYTES {
            rename(&self.path, self.path.with_extension("log.1")).await?;
            (self.file, self.written) = (None, 0);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path).await?),
        };
        file.write_all(bytes).await?;
        file.flush().await?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

async fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_logged_again_once_it_can_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let mut log = ConsoleLog { path: missing.join("console.log"), file: None, written: 0 };
        log.append(b"lost").await.expect_err("no directory");
        std::fs::create_dir(&missing).expect("made");
        log.append(b"kept").await.expect("written");
        assert_eq!(std::fs::read(missing.join("console.log")).expect("read"), b"kept");
        // The limit is per file.
        log.written = MAX_BYTES + 1;
        log.append(b"new").await.expect("written");
        assert_eq!(std::fs::read(missing.join("console.log")).expect("read"), b"new");
        assert_eq!(std::fs::read(missing.join("console.log.1")).expect("read"), b"kept");
    }
}
