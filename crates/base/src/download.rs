//! Downloads an image into the store's directory, from where it is added.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};

use crate::file_error::FileError;
use crate::space::{SpaceError, SpaceGuard, check_space};
use crate::store::{Draft, Store};

/// Limits the wait for a connection, and for the next bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// An image that was downloaded. It is removed when dropped.
#[derive(Debug)]
pub struct Download {
    path: PathBuf,
    _draft: Draft,
}

impl Download {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why an image was not downloaded. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The server cannot be reached, or the transfer broke off.
    #[error("cannot download {url}")]
    Transfer {
        /// The URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server sends no file.
    #[error("cannot download {url}: the server replied {status}")]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// There is not enough space for it.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Downloads an image over HTTP or HTTPS. Its size is limited by the free space. Drop the future to cancel it.
    ///
    /// # Errors
    /// If the server does not send the whole file, or it cannot be written.
    pub async fn download(&self, url: &str) -> Result<Download, DownloadError> {
        let failed = |source| DownloadError::Transfer { url: url.to_owned(), source };
        let response = client().map_err(failed)?.get(url).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(DownloadError::Status { url: url.to_owned(), status: response.status() });
        }
        let draft = self.create_draft(&self.lock()?)?;
        let path = draft.path().join("download");
        let file = File::create_new(&path).map_err(FileError::at("create", &path))?;
        check_space(&file, response.content_length().unwrap_or(0))?;
        receive(response, file, &path, failed).await?;
        Ok(Download { path, _draft: draft })
    }
}

fn client() -> reqwest::Result<Client> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if another thread has just installed one, which serves as well.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("mimeo/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Writes the body to the file.
async fn receive(
    mut response: Response,
    mut file: File,
    path: &Path,
    failed: impl Fn(reqwest::Error) -> DownloadError,
) -> Result<(), DownloadError> {
    let mut space = SpaceGuard::default();
    while let Some(chunk) = response.chunk().await.map_err(&failed)? {
        space.check(&file, chunk.len())?;
        file.write_all(&chunk).map_err(FileError::at("write", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::test_images::TestStore;

    /// Serves one request with these bytes; returns the URL.
    fn serve(reply: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/image", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            stream.write_all(reply).expect("replied");
        });
        url
    }

    #[tokio::test]
    async fn a_download_is_removed_with_its_value() {
        let test = TestStore::new();
        let url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage");
        let download = test.store.download(&url).await.expect("downloaded");
        assert_eq!(std::fs::read(download.path()).expect("read"), b"image");
        drop(download);
        assert_eq!(test.leftovers(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_not_whole_leaves_nothing() {
        let test = TestStore::new();
        for (reply, part) in [
            (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], "replied 404 Not Found"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nimage", "cannot download"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1152921504606846976\r\n\r\nimage",
                "insufficient disk space",
            ),
        ] {
            let error = test.store.download(&serve(reply)).await.expect_err("refused");
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert_eq!(test.leftovers(), Vec::<String>::new());
        }
        let error = test.store.download("ftp://127.0.0.1/image").await.expect_err("refused");
        assert!(matches!(error, DownloadError::Transfer { .. }), "{error}");
    }
}
