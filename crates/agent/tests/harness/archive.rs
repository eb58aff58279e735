//! Archives of a machine's files.

use bytes::Bytes;
use mimeo_agent_protocol::link::Item;
use mimeo_agent_protocol::message::{Failure, Reply, Request, channel};

use super::{TIMEOUT, Vm};

/// The names in an archive, sorted.
pub fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").path().expect("a name").display().to_string()).collect();
    names.sort();
    names
}

impl Vm {
    pub async fn read_archive(&self, path: &str, follow: bool) -> Result<Vec<u8>, Failure> {
        let mut stream = self.open(&Request::ReadArchive { path: path.into(), follow, content: false });
        let mut archive = Vec::new();
        let reading = async {
            while let Some(item) = stream.receiver.next().await.expect("an archive") {
                match item {
                    Item::Data { bytes, .. } => archive.extend_from_slice(&bytes),
                    Item::Message(json) => match serde_json::from_slice(&json).expect("a reply") {
                        Reply::Done => {}
                        Reply::Failed(failure) => return Err(failure),
                        other => panic!("{other:?}"),
                    },
                }
            }
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, reading).await.expect("an archive in time")?;
        Ok(archive)
    }

    pub async fn write_archive(&self, directory: &str, archive: &[u8]) -> Reply {
        let mut stream = self.open(&Request::WriteArchive { directory: directory.into() });
        let sending = async {
            // Fails when the request was refused before all data was sent.
            stream.sender.data(channel::STDIN, Bytes::copy_from_slice(archive)).await.ok();
            stream.sender.data(channel::STDIN, Bytes::new()).await.ok();
        };
        let receiving = async { stream.receiver.message().await.expect("an answer") };
        tokio::time::timeout(TIMEOUT, async { tokio::join!(sending, receiving).1 })
            .await
            .expect("an answer in time")
    }
}
