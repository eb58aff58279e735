//! The asking side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_agent_protocol::link::{self, Link, LinkError, Stream};
use mimeo_agent_protocol::message::{Failure, Reply, Request};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ControlReply, ControlRequest, SOCKET};
use crate::Home;
use crate::id::SnapshotId;
use crate::machine::{Exit, Found, MachineName, Refusal};
use crate::snapshot::Kind;

/// How long a monitor may take to say hello. It serves clients beside all else.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);

/// A session with a machine's monitor.
#[derive(Debug, Clone)]
pub struct ControlClient {
    link: Link,
    name: MachineName,
}

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// Its id.
    pub snapshot: SnapshotId,
    /// How long the workload stood still, in microseconds.
    pub pause_micros: u64,
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The machine has no monitor any more.
    #[error("machine {name} is not running")]
    NotRunning {
        /// Its name.
        name: MachineName,
    },
    /// The socket could not be used.
    #[error("cannot reach the monitor of machine {name} at {}", path.display())]
    Socket {
        /// The machine's name.
        name: MachineName,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The monitor does not answer: it stands still, or the host is overloaded.
    #[error("the monitor of machine {name} has not answered within {seconds} s")]
    Silent {
        /// The machine's name.
        name: MachineName,
        /// How long was waited.
        seconds: u64,
    },
    /// The monitor does not speak as we do.
    #[error("cannot talk to the monitor of machine {name}")]
    Hello {
        /// The machine's name.
        name: MachineName,
        /// Why.
        #[source]
        source: LinkError,
    },
}

/// Why a monitor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The machine's state does not allow it.
    #[error("machine {name}: {refusal}")]
    Refused {
        /// Its name.
        name: MachineName,
        /// Why.
        refusal: Refusal,
    },
    /// It failed.
    #[error("machine {name}: {message}")]
    Failed {
        /// Its name.
        name: MachineName,
        /// How.
        message: String,
    },
    /// The guest could not do it.
    #[error("machine {name}: {failure}")]
    Guest {
        /// Its name.
        name: MachineName,
        /// How.
        failure: Failure,
    },
    /// The machine ended meanwhile.
    #[error("machine {name}: the monitor has gone")]
    Link {
        /// Its name.
        name: MachineName,
        /// How.
        #[source]
        source: LinkError,
    },
}

impl ControlClient {
    /// Begins a session with the monitor of `machine`.
    ///
    /// # Errors
    /// When it has none that answers.
    pub async fn connect(home: &Home, machine: &Found) -> Result<Self, ConnectError> {
        let name = machine.record.name.clone();
        if !machine.owned {
            return Err(ConnectError::NotRunning { name });
        }
        let path = home.machine_run(&machine.record.id).join(SOCKET);
        Self::connect_to(&path, name).await
    }

    async fn connect_to(path: &Path, name: MachineName) -> Result<Self, ConnectError> {
        let socket = UnixStream::connect(path).await.map_err(|source| match source.kind() {
            // It is still being made, or has just ended.
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::ConnectionReset => ConnectError::NotRunning { name: name.clone() },
            _ => ConnectError::Socket { name: name.clone(), path: path.to_owned(), source },
        })?;
        let (reader, writer) = socket.into_split();
        let program = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
        match timeout(HELLO_TIMEOUT, link::connect(reader, writer, 1, program)).await {
            Ok(Ok((link, _))) => Ok(Self { link, name }),
            Ok(Err(source)) => Err(ConnectError::Hello { name, source }),
            Err(_) => Err(ConnectError::Silent { name, seconds: HELLO_TIMEOUT.as_secs() }),
        }
    }

    /// Asks for something that is answered with `done`.
    ///
    /// # Errors
    /// When it is not done.
    pub async fn request(&self, request: &ControlRequest) -> Result<(), ControlError> {
        match self.send_request(request).await? {
            ControlReply::Done | ControlReply::Exited { .. } => Ok(()),
            ControlReply::Refused { refusal } => {
                Err(ControlError::Refused { name: self.name.clone(), refusal })
            }
            ControlReply::Failed { message } => {
                Err(ControlError::Failed { name: self.name.clone(), message })
            }
            reply @ ControlReply::Saved { .. } => Err(self.unexpected_reply(&reply)),
        }
    }

    /// Has a snapshot of the machine kept.
    ///
    /// # Errors
    /// When there is none; the machine goes on all the same.
    pub async fn snapshot(
        &self,
        tag: Option<MachineName>,
        kind: Kind,
    ) -> Result<SavedSnapshot, ControlError> {
        match self.send_request(&ControlRequest::Snapshot { tag, kind }).await? {
            ControlReply::Saved { snapshot, pause_micros, memory_bytes } => {
                Ok(SavedSnapshot { snapshot, pause_micros, memory_bytes })
            }
            ControlReply::Refused { refusal } => {
                Err(ControlError::Refused { name: self.name.clone(), refusal })
            }
            ControlReply::Failed { message } => {
                Err(ControlError::Failed { name: self.name.clone(), message })
            }
            reply => Err(self.unexpected_reply(&reply)),
        }
    }

    fn unexpected_reply(&self, reply: &ControlReply) -> ControlError {
        ControlError::Failed {
            name: self.name.clone(),
            message: format!("the monitor answered out of turn: {reply:?}"),
        }
    }

    /// Waits until the machine has ended.
    ///
    /// # Errors
    /// When the monitor vanishes without a word.
    pub async fn wait(&self) -> Result<Exit, ControlError> {
        match self.send_request(&ControlRequest::Wait).await? {
            ControlReply::Exited { exit } => Ok(exit),
            reply => Err(self.unexpected_reply(&reply)),
        }
    }

    /// Opens a stream to the guest. Its first message has been read.
    ///
    /// # Errors
    /// When the guest does not take it.
    pub async fn guest(&self, request: Request) -> Result<(Reply, Stream), ControlError> {
        let mut stream = self.open_stream(&ControlRequest::Guest { request: Box::new(request) })?;
        match stream.receiver.message::<Reply>().await.map_err(|source| self.link_error(source))? {
            Reply::Failed(failure) => Err(ControlError::Guest { name: self.name.clone(), failure }),
            reply => Ok((reply, stream)),
        }
    }

    /// Opens a stream to the guest that the guest answers at its end only.
    ///
    /// # Errors
    /// When the session is over.
    pub fn stream(&self, request: Request) -> Result<Stream, ControlError> {
        self.open_stream(&ControlRequest::Guest { request: Box::new(request) })
    }

    async fn send_request(&self, request: &ControlRequest) -> Result<ControlReply, ControlError> {
        let mut stream = self.open_stream(request)?;
        stream.receiver.message().await.map_err(|source| self.link_error(source))
    }

    fn open_stream(&self, request: &ControlRequest) -> Result<Stream, ControlError> {
        self.link.open(request).map_err(|source| self.link_error(source))
    }

    fn link_error(&self, source: LinkError) -> ControlError {
        ControlError::Link { name: self.name.clone(), source }
    }
}
