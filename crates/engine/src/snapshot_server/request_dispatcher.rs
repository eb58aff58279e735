//! Dispatches the requests of a snapshot server's clients.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::pool::Pool;
use super::served_clone::{RequestedClone, ServedClone};
use crate::Engine;
use crate::admission::{Available, Reservation};
use crate::cause::chain;
use crate::launch_request::{CloneInfo, HoldPolicy, Release};
use crate::machine::CloneOverrides;
use crate::supervisor_process::{SpawnError, start_permits};

/// A request and the stream for its replies.
pub(super) type PendingRequest = (Bytes, Stream);

/// A request to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum ServeRequest {
    /// Start clones. -> `cloned` or `refused` for each, in any order
    Clone {
        /// The settings of each clone.
        #[serde(rename = "wishes")]
        overrides: Vec<CloneOverrides>,
    },
}

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum ServeReply {
    /// The clone runs.
    Cloned {
        /// Its index in the request.
        #[serde(rename = "place")]
        index: usize,
        /// The clone.
        clone: Box<CloneInfo>,
    },
    /// The clone could not be started.
    Refused {
        /// Its index in the request.
        #[serde(rename = "place")]
        index: usize,
        /// The reason.
        message: String,
    },
}

/// A server's clones and its pool.
#[derive(Debug)]
pub(super) struct RequestDispatcher {
    engine: Engine,
    pub(super) pool: Pool,
    clones: JoinSet<()>,
    permits: Arc<Semaphore>,
    end: watch::Sender<bool>,
}

impl RequestDispatcher {
    pub(super) fn new(engine: Engine, pool: Pool) -> Self {
        Self {
            engine,
            pool,
            clones: JoinSet::new(),
            permits: start_permits(),
            end: watch::Sender::new(false),
        }
    }

    /// Starts the requested clones; the replies are sent when each is done.
    pub(super) fn handle_request(&mut self, (request, stream): PendingRequest) {
        let overrides = match serde_json::from_slice(&request) {
            Ok(ServeRequest::Clone { overrides }) => overrides,
            Err(error) => {
                let message = format!("unreadable request: {error}");
                return stream.sender.message(&ServeReply::Refused { index: 0, message });
            }
        };
        // All tasks share the stream with its receiver: dropping the receiver would end the stream, and the replies with it.
        let stream = Arc::new(stream);
        let mut memory = None;
        for (index, overrides) in overrides.into_iter().enumerate() {
            let method = match self.pool.take_ready() {
                // Its memory is already accounted for.
                Some(clone) => StartMethod::FromPool(Box::new(clone), overrides.clone()),
                None => match memory
                    .get_or_insert_with(|| Available::now(&self.engine))
                    .reserve_clone(&self.engine)
                {
                    Ok(reservation) => StartMethod::New(reservation),
                    Err(refusal) => StartMethod::Refuse(refusal.into()),
                },
            };
            let requested = self.pool.prepare_request(HoldPolicy::Never, overrides);
            let (stream, permits, end) = (stream.clone(), self.permits.clone(), self.end.subscribe());
            self.clones.spawn(async move {
                match method.start(requested, &permits).await {
                    Ok((clone, info)) => {
                        stream.sender.message(&ServeReply::Cloned { index, clone: Box::new(info) });
                        drop(stream);
                        hold_until_end(clone, end).await;
                    }
                    Err(error) => {
                        let message = chain(&error);
                        stream.sender.message(&ServeReply::Refused { index, message });
                    }
                }
            });
        }
        self.pool.fill(&self.engine);
    }

    /// Handles the next event of the pool or of a clone. Cancellation-safe.
    pub(super) async fn step(&mut self) {
        tokio::select! {
            () = self.pool.step() => self.pool.fill(&self.engine),
            Some(_) = self.clones.join_next() => {}
        }
    }

    /// Ends all clones and waits until they are cleaned up.
    pub(super) async fn close(mut self) {
        self.end.send_replace(true);
        self.pool.close().await;
        while self.clones.join_next().await.is_some() {}
    }
}

enum StartMethod {
    FromPool(Box<ServedClone>, CloneOverrides),
    New(Reservation),
    Refuse(SpawnError),
}

impl StartMethod {
    async fn start(
        self,
        requested: Result<RequestedClone, SpawnError>,
        permits: &Semaphore,
    ) -> Result<(ServedClone, CloneInfo), SpawnError> {
        match self {
            Self::FromPool(mut clone, overrides) => {
                match clone.supervisor.release(&Release::ProceedAs(overrides)).await {
                    Ok(info) => Ok((*clone, info)),
                    // It died in the pool.
                    Err(SpawnError::Gone) => start_new(requested?, permits).await,
                    Err(error) => Err(error),
                }
            }
            Self::New(_reservation) => start_new(requested?, permits).await,
            Self::Refuse(refusal) => Err(refusal),
        }
    }
}

async fn start_new(
    requested: RequestedClone,
    permits: &Semaphore,
) -> Result<(ServedClone, CloneInfo), SpawnError> {
    let _permit = permits.acquire().await;
    requested.start().await
}

/// Holds the pipe that keeps the clone alive, until the clone or the server ends.
async fn hold_until_end(mut clone: ServedClone, mut end: watch::Receiver<bool>) {
    let ending = async { end.wait_for(|end| *end).await.is_ok() };
    let is_ending = tokio::select! {
        () = clone.supervisor.wait() => false,
        ending = ending => ending,
    };
    if is_ending {
        clone.abandon().await;
    }
}
