//! The client of a snapshot server.

use std::path::PathBuf;

use mimeo_agent_protocol::link::{self, Item, Link, LinkError, Stream};
use tokio::net::UnixStream;

use super::record::ServeRecord;
use super::request_dispatcher::{ReleaseRequest, ServeReply, ServeRequest};
use crate::id::MachineId;
use crate::launch_request::StartFailure;
use crate::machine::CloneOverrides;
use crate::supervisor_process::{Cloned, SpawnError, clone_label};

/// Why a request to a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeClientError {
    /// The connection to its socket failed.
    #[error("cannot reach the snapshot server at {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It speaks another protocol, or has ended.
    #[error("the snapshot server does not answer")]
    Link(#[from] LinkError),
    /// It refused the request.
    #[error("the snapshot server refused: {message}")]
    Refused {
        /// Why.
        message: String,
    },
}

/// Has the server start a clone for each of `overrides`.
///
/// # Errors
/// When the request cannot be sent. Clones that the server did not report before it ended are returned as
/// [`SpawnError::Gone`].
pub async fn start_clones(
    serve: &ServeRecord,
    overrides: Vec<CloneOverrides>,
) -> Result<Vec<Cloned>, ServeClientError> {
    let link = connect(serve).await?;
    let clones = not_started(&overrides);
    let mut stream = link.open(&ServeRequest::Clone { overrides })?;
    receive_outcomes(&mut stream, clones).await
}

/// Clones that a server's pool holds for this client. They are started with [`Reservation::release`]; when this value is
/// dropped before, or this process dies, they end.
#[derive(Debug)]
pub struct Reservation {
    /// The ids of the clones.
    pub ids: Vec<MachineId>,
    /// How many more clones are ready in the pool.
    pub remaining: usize,
    stream: Stream,
    _link: Link,
}

/// Reserves up to `count` clones that are ready in the server's pool.
///
/// # Errors
/// When the server cannot be reached, or does not release its clones.
pub async fn reserve(serve: &ServeRecord, count: usize) -> Result<Reservation, ServeClientError> {
    let link = connect(serve).await?;
    let mut stream = link.open(&ServeRequest::Reserve { count })?;
    match stream.receiver.message().await? {
        ServeReply::Reserved { ids, remaining } => Ok(Reservation { ids, remaining, stream, _link: link }),
        ServeReply::Refused { message, .. } => Err(ServeClientError::Refused { message }),
        ServeReply::Cloned { .. } => Err(unexpected()),
    }
}

impl Reservation {
    /// Starts clones of this reservation with these settings, and waits until they run. The others end.
    ///
    /// # Errors
    /// When the server's reply cannot be understood.
    pub async fn release(
        mut self,
        clones: Vec<(MachineId, CloneOverrides)>,
    ) -> Result<Vec<Cloned>, ServeClientError> {
        let (ids, overrides): (Vec<_>, Vec<_>) = clones.into_iter().unzip();
        let started = not_started(&overrides);
        for (index, (id, overrides)) in ids.into_iter().zip(overrides).enumerate() {
            self.stream.sender.message(&ReleaseRequest { index, id, overrides });
        }
        receive_outcomes(&mut self.stream, started).await
    }
}

async fn connect(serve: &ServeRecord) -> Result<Link, ServeClientError> {
    let path = &serve.socket;
    let socket = UnixStream::connect(path)
        .await
        .map_err(|source| ServeClientError::Socket { path: path.clone(), source })?;
    let (reader, writer) = socket.into_split();
    let program = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
    Ok(link::connect(reader, writer, 1, program).await?.0)
}

fn unexpected() -> ServeClientError {
    LinkError::Violation("sent a message that cannot be read").into()
}

fn not_started(overrides: &[CloneOverrides]) -> Vec<Cloned> {
    let not_started = |(index, overrides): (usize, &CloneOverrides)| Cloned {
        requested: clone_label(overrides.name.as_ref(), index),
        outcome: Err(SpawnError::Gone),
    };
    overrides.iter().enumerate().map(not_started).collect()
}

/// Receives the outcome of each clone. If the server ends early, the clones without a reply stay `Gone`.
async fn receive_outcomes(
    stream: &mut Stream,
    mut clones: Vec<Cloned>,
) -> Result<Vec<Cloned>, ServeClientError> {
    let mut missing = clones.len();
    while missing > 0 {
        let Ok(Some(item)) = stream.receiver.next().await else { break };
        let Item::Message(json) = item else { continue };
        let (index, outcome) = match serde_json::from_slice(&json) {
            Ok(ServeReply::Cloned { index, clone }) => (index, Ok(*clone)),
            Ok(ServeReply::Refused { index, message, failure }) => {
                let failure = failure.unwrap_or_else(|| Box::new(StartFailure::from_message(message)));
                (index, Err(SpawnError::from_failure(failure)))
            }
            Ok(ServeReply::Reserved { .. }) | Err(_) => return Err(unexpected()),
        };
        if let Some(cloned) = clones.get_mut(index) {
            cloned.outcome = outcome;
            missing -= 1;
        }
    }
    Ok(clones)
}
