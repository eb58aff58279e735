//! What joins the guest to its host: a serial port or a vsock device.

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

/// How long the kernel may take to show it.
const LINK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for: the kernel finds it within a few milliseconds of its driver.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// What the host says.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What the host is told.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// Both, for one session or more.
pub(crate) type Channel = (FrameReader<Reader>, Writer);

/// What joins the guest to its host.
#[derive(Debug)]
pub(crate) enum HostLink {
    Port(Arc<OwnedFd>),
    Vsock(Arc<Listener>),
}

impl HostLink {
    /// Loads modules only until the link is there; the rest are for later.
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
                return Err(SystemError::new("look for the host link", rustix::io::Errno::NODEV));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The way to the host: at once by a port, when it connects by vsock.
    /// `frozen`: whether the workload is held still, so that the machine may be saved.
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
