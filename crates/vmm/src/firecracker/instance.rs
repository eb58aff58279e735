//! A running Firecracker.

use std::net::Ipv4Addr;
use std::path::Path;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::NAME;
use super::api::Api;
use super::link::Link;
use super::process::Process;
use super::save;
use super::version::{Feature, diffs_are_exact, loses_link_when_paused};
use crate::{CheckpointHook, Forward, GuestMemory, Instance, OperationError, SaveKind, VmExit, VmProcess};

#[derive(Debug)]
pub(super) struct FirecrackerInstance {
    process: Process,
    api: Api,
    /// The guest link, once its other end was taken.
    link: Option<Link>,
    tracks_writes: bool,
    /// Whether the machine was saved since it was paused.
    saved_since_pause: bool,
}

impl FirecrackerInstance {
    pub(super) fn new(process: Process, api: Api, tracks_writes: bool) -> Self {
        Self { process, api, link: None, tracks_writes, saved_since_pause: true }
    }
}

fn unsupported<T>(operation: &'static str) -> Result<T, OperationError> {
    Err(OperationError::Unsupported { driver: NAME, operation })
}

#[async_trait]
impl Instance for FirecrackerInstance {
    fn process(&self) -> VmProcess {
        VmProcess { pid: self.process.pid() }
    }

    fn take_link(&mut self) -> Result<UnixStream, OperationError> {
        if self.link.is_some() {
            return Err(OperationError::LinkTaken);
        }
        let opened = Link::open(self.process.layout().directory().clone());
        let (end, link) = opened.map_err(|error| OperationError::Refused {
            command: "to open the guest link".to_owned(),
            message: error.to_string(),
        })?;
        self.link = Some(link);
        Ok(end)
    }

    async fn pause(&mut self) -> Result<(), OperationError> {
        self.api.pause().await?;
        self.saved_since_pause = false;
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), OperationError> {
        if !self.saved_since_pause && loses_link_when_paused(self.api.version()) {
            tracing::warn!(
                version = self.api.full_version(),
                "this version of firecracker loses the guest link of a machine that is resumed without having been saved"
            );
        }
        Ok(self.api.resume().await?)
    }

    async fn version(&self) -> Result<String, OperationError> {
        Ok(self.api.full_version().to_owned())
    }

    fn has_exact_diffs(&self) -> bool {
        self.tracks_writes && diffs_are_exact(self.api.version())
    }

    fn memory(&self) -> Result<GuestMemory, OperationError> {
        unsupported("give access to guest memory: the VMM saves memory itself")
    }

    async fn save_devices(&mut self, _: &Path) -> Result<(), OperationError> {
        unsupported("save devices without memory")
    }

    async fn save(&mut self, state: &Path, memory: &Path, kind: SaveKind) -> Result<(), OperationError> {
        if kind == SaveKind::Diff && !self.tracks_writes {
            self.api.require(Feature::DiffUntracked)?;
        }
        self.saved_since_pause = true;
        let result = save::save(&self.api, self.process.layout(), state, memory, kind).await;
        // Firecracker closes the guest's connections before it writes anything, so this is needed after a
        // failure, too.
        self.link.iter().for_each(Link::reconnect);
        result
    }

    async fn checkpoint(&mut self, _: &Path, _: CheckpointHook) -> Result<(), OperationError> {
        unsupported("checkpoint its process")
    }

    async fn add_layer(&mut self, _: &str, _: &Path) -> Result<(), OperationError> {
        unsupported("add a layer to a disk")
    }

    async fn publish(&mut self, _: &Forward, _: Ipv4Addr) -> Result<(), OperationError> {
        unsupported("publish a port: the machine's network does that")
    }

    async fn unpublish(&mut self, _: &Forward) -> Result<(), OperationError> {
        unsupported("withdraw a port: the machine's network does that")
    }

    async fn wait(&mut self) -> VmExit {
        let exit = self.process.wait().await;
        self.link = None;
        exit
    }

    async fn kill(&mut self) {
        self.process.kill().await;
        self.link = None;
    }
}
