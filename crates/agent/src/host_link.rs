//! The host link's device: a virtio-serial port or a vsock device.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::link::FrameReader;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::failure::{Context, SystemError};
use crate::modules::Modules;
use crate::port;
use crate::vsock::{self, Listener};

/// Timeout until the kernel has found the device.
const LINK_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between checks: the kernel finds the device within a few milliseconds after its driver is loaded.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// Reads from the host.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Writes to the host.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// Both directions, for one or more sessions.
pub(crate) type Channel = (FrameReader<Reader>, Writer);

/// The device that the host link uses.
#[derive(Debug)]
pub(crate) enum HostLink {
    Port(Arc<OwnedFd>),
    Vsock(Arc<Listener>),
}

impl HostLink {
    /// Finds the device. Loads eager modules only until it appears; the others are loaded later.
    pub(crate) async fn find(modules: &Modules) -> Result<Self, SystemError> {
        for file in modules.eager()? {
            if port::find().is_some() {
                break;
            }
            modules.load(&file)?;
        }
        let deadline = tokio::time::Instant::now() + LINK_TIMEOUT;
        loop {
            if let Some(path) = port::find() {
                return port::open(&path).context("open the host link").map(Self::Port);
            }
            if vsock::has_device() {
                modules.load_on_demand(vsock::MODULE)?;
                let listener = Listener::new().context("listen for the host")?;
                return Ok(Self::Vsock(Arc::new(listener)));
            }
            if tokio::time::Instant::now() > deadline {
                return Err(SystemError::new("find the host link", rustix::io::Errno::NODEV));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Opens the channel to the host: at once for a port, after the host has connected for vsock.
    /// `frozen` tells whether the workload is frozen, during which the machine may be saved.
    pub(crate) async fn open(&self, frozen: Arc<watch::Sender<bool>>) -> Result<Channel, SystemError> {
        let (reader, writer): (Reader, Writer) = match self {
            Self::Port(port) => {
                let (reader, writer) = port::split(port.clone()).context("watch the host link")?;
                (Box::new(reader), Box::new(writer))
            }
            Self::Vsock(listener) => {
                let (reader, writer) = vsock::accept(listener, frozen).await.context("wait for the host")?;
                (Box::new(reader), Box::new(writer))
            }
        };
        Ok((FrameReader::new(reader), writer))
    }
}
