//! The client of a snapshot server.

use std::path::PathBuf;

use mimeo_agent_protocol::link::{self, Item, LinkError};
use tokio::net::UnixStream;

use super::record::ServeRecord;
use super::request_dispatcher::{ServeReply, ServeRequest};
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
    let path = &serve.socket;
    let socket = UnixStream::connect(path)
        .await
        .map_err(|source| ServeClientError::Socket { path: path.clone(), source })?;
    let (reader, writer) = socket.into_split();
    let program = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
    let (link, _) = link::connect(reader, writer, 1, program).await?;
    let mut clones: Vec<_> = overrides
        .iter()
        .enumerate()
        .map(|(index, overrides)| Cloned {
            requested: clone_label(overrides.name.as_ref(), index),
            outcome: Err(SpawnError::Gone),
        })
        .collect();
    let mut stream = link.open(&ServeRequest::Clone { overrides })?;
    let mut missing = clones.len();
    while missing > 0 {
        // If the server ends early, the clones without a reply stay `Gone`.
        let Ok(Some(item)) = stream.receiver.next().await else { break };
        let Item::Message(json) = item else { continue };
        let (index, outcome) = match serde_json::from_slice(&json) {
            Ok(ServeReply::Cloned { index, clone }) => (index, Ok(*clone)),
            Ok(ServeReply::Refused { index, message }) => {
                (index, Err(SpawnError::Failed(Box::new(StartFailure::from_message(message)))))
            }
            Err(_) => return Err(LinkError::Violation("sent a message that cannot be read").into()),
        };
        if let Some(cloned) = clones.get_mut(index) {
            cloned.outcome = outcome;
            missing -= 1;
        }
    }
    Ok(clones)
}
