//! A client of a machine's supervisor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mimeo_agent_protocol::link::{self, Link, LinkError, Receiver, Stream};
use mimeo_agent_protocol::message::{Failure, Reply, Request};
use mimeo_net::PortMapping;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ControlReply, ControlRequest, SOCKET};
use crate::Home;
use crate::id::SnapshotId;
use crate::launch_request::StartFailureKind;
use crate::machine::{Exit, Found, MachineName, Refusal};
use crate::snapshot::Kind;

/// Timeout for a supervisor's hello. The supervisor serves clients alongside its other work.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to a machine's supervisor.
#[derive(Debug, Clone)]
pub struct ControlClient {
    link: Link,
    name: MachineName,
}

/// A snapshot that was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// Its id.
    pub snapshot: SnapshotId,
    /// How long the workload was paused, in microseconds.
    pub pause_micros: u64,
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
}

/// Why a client cannot connect to a supervisor.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The machine has no supervisor any more.
    #[error("machine {name} is not running")]
    NotRunning {
        /// The machine's name.
        name: MachineName,
    },
    /// The socket could not be used.
    #[error("cannot reach the supervisor of machine {name} at {}", path.display())]
    Socket {
        /// The machine's name.
        name: MachineName,
        /// The socket's path.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The supervisor does not answer: it hangs, or the host is overloaded.
    #[error("the supervisor of machine {name} did not answer within {seconds} s")]
    Silent {
        /// The machine's name.
        name: MachineName,
        /// The timeout.
        seconds: u64,
    },
    /// The handshake failed.
    #[error("cannot talk to the supervisor of machine {name}")]
    Hello {
        /// The machine's name.
        name: MachineName,
        /// What failed.
        #[source]
        source: LinkError,
    },
}

/// Why a supervisor did not carry out a request.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The machine's state does not allow the request.
    #[error("machine {name}: {refusal}")]
    Refused {
        /// The machine's name.
        name: MachineName,
        /// Why.
        refusal: Refusal,
    },
    /// The request failed.
    #[error("machine {name}: {message}")]
    Failed {
        /// The machine's name.
        name: MachineName,
        /// What failed, and why.
        message: String,
    },
    /// A port could not be published, or withdrawn.
    #[error("machine {name}: {message}")]
    Port {
        /// The machine's name.
        name: MachineName,
        /// What kind of failure it is.
        kind: StartFailureKind,
        /// What failed, and why.
        message: String,
    },
    /// The guest could not carry out the request.
    #[error("machine {name}: {failure}")]
    Guest {
        /// The machine's name.
        name: MachineName,
        /// What failed in the guest.
        failure: Failure,
    },
    /// The connection ended, usually because the machine exited.
    #[error("machine {name}: lost the connection to its supervisor")]
    Link {
        /// The machine's name.
        name: MachineName,
        /// The error of the connection.
        #[source]
        source: LinkError,
    },
}

impl ControlClient {
    /// Connects to the supervisor of `machine`.
    ///
    /// # Errors
    /// If it has no supervisor, or the supervisor does not answer.
    pub async fn connect(home: &Home, machine: &Found) -> Result<Self, ConnectError> {
        let name = machine.record.name.clone();
        if !machine.supervised {
            return Err(ConnectError::NotRunning { name });
        }
        let path = home.machine_run(&machine.record.id).join(SOCKET);
        Self::connect_to(&path, name).await
    }

    async fn connect_to(path: &Path, name: MachineName) -> Result<Self, ConnectError> {
        let socket = UnixStream::connect(path).await.map_err(|source| match source.kind() {
            // The machine is still being created, or has just exited.
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::ConnectionReset => ConnectError::NotRunning { name: name.clone() },
            _ => ConnectError::Socket { name: name.clone(), path: path.to_owned(), source },
        })?;
        let (reader, writer) = socket.into_split();
        let program = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
        match timeout(HELLO_TIMEOUT, link::connect(reader, writer, 1, program)).await {
            Ok(Ok((link, _))) => Ok(Self { link, name }),
            // It has ended before it has answered.
            Ok(Err(LinkError::Closed)) => Err(ConnectError::NotRunning { name }),
            Ok(Err(source)) => Err(ConnectError::Hello { name, source }),
            Err(_) => Err(ConnectError::Silent { name, seconds: HELLO_TIMEOUT.as_secs() }),
        }
    }

    /// Sends a request that is answered with `done`.
    ///
    /// # Errors
    /// If the request is refused or fails.
    pub async fn request(&self, request: &ControlRequest) -> Result<(), ControlError> {
        match self.send_request(request).await? {
            ControlReply::Done | ControlReply::Exited { .. } => Ok(()),
            ControlReply::Refused { refusal } => {
                Err(ControlError::Refused { name: self.name.clone(), refusal })
            }
            ControlReply::Failed { message } => {
                Err(ControlError::Failed { name: self.name.clone(), message })
            }
            reply => Err(self.unexpected_reply(&reply)),
        }
    }

    /// Takes a snapshot of the machine.
    ///
    /// # Errors
    /// If no snapshot was saved; the machine continues to run in any case.
    pub async fn snapshot(
        &self,
        tag: Option<MachineName>,
        kind: Kind,
        id: Option<SnapshotId>,
    ) -> Result<SavedSnapshot, ControlError> {
        match self.send_request(&ControlRequest::Snapshot { tag, kind, id }).await? {
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

    /// Publishes or withdraws a port, and returns it with its host port.
    ///
    /// # Errors
    /// If that fails; nothing is changed then.
    pub(crate) async fn change_port(&self, request: &ControlRequest) -> Result<PortMapping, ControlError> {
        let name = || self.name.clone();
        match self.send_request(request).await? {
            ControlReply::Published { port } => Ok(port),
            ControlReply::NotPublished { kind, message } => {
                Err(ControlError::Port { name: name(), kind, message })
            }
            ControlReply::Refused { refusal } => Err(ControlError::Refused { name: name(), refusal }),
            ControlReply::Failed { message } => Err(ControlError::Failed { name: name(), message }),
            reply => Err(self.unexpected_reply(&reply)),
        }
    }

    /// Runs the machine's health check, and returns why it failed, if it did.
    ///
    /// # Errors
    /// If the machine has none, or does not run.
    pub async fn check_health(&self) -> Result<Option<String>, ControlError> {
        match self.send_request(&ControlRequest::CheckHealth).await? {
            ControlReply::Checked { failure } => Ok(failure),
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
            message: format!("unexpected reply from the supervisor: {reply:?}"),
        }
    }

    /// Waits until the machine has exited.
    ///
    /// # Errors
    /// If the connection to the supervisor is lost.
    pub async fn wait(&self) -> Result<Exit, ControlError> {
        self.watch_exit()?.await
    }

    /// Asks for the machine's exit. Requests that follow are sent after this one; the future returns the exit.
    ///
    /// # Errors
    /// If the connection to the supervisor is lost.
    pub fn watch_exit(
        &self,
    ) -> Result<impl Future<Output = Result<Exit, ControlError>> + use<>, ControlError> {
        let mut stream = self.open_stream(&ControlRequest::Wait)?;
        let client = self.clone();
        Ok(async move {
            match stream.receiver.message().await.map_err(|source| client.link_error(source))? {
                ControlReply::Exited { exit } => Ok(exit),
                reply => Err(client.unexpected_reply(&reply)),
            }
        })
    }

    /// Attaches to the container's standard streams.
    ///
    /// # Errors
    /// If the connection to the supervisor is lost.
    pub fn attach(&self, stdin: bool) -> Result<Stream, ControlError> {
        self.open_stream(&ControlRequest::Attach { stdin })
    }

    /// Opens a stream to the guest and reads the guest's first reply.
    ///
    /// # Errors
    /// If the guest refuses the request.
    pub async fn guest(&self, request: Request) -> Result<(Reply, Stream), ControlError> {
        let mut stream = self.stream(request)?;
        let reply = self.first_reply(&mut stream.receiver).await?;
        Ok((reply, stream))
    }

    /// Reads the guest's first reply on a stream. Cancel-safe.
    ///
    /// # Errors
    /// If the guest refuses the request.
    pub async fn first_reply(&self, receiver: &mut Receiver) -> Result<Reply, ControlError> {
        match receiver.message::<Reply>().await.map_err(|source| self.link_error(source))? {
            Reply::Failed(failure) => Err(ControlError::Guest { name: self.name.clone(), failure }),
            reply => Ok(reply),
        }
    }

    /// Opens a stream to the guest on which the guest replies only at the end.
    ///
    /// # Errors
    /// If the connection to the supervisor is lost.
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
