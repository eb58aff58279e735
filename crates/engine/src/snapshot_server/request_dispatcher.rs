//! Dispatches the requests of a snapshot server's clients.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::pool::Pool;
use super::reserved;
use super::served_clone::{RequestedClone, ServedClone};
use crate::Engine;
use crate::admission::{Available, Reservation};
use crate::cause::chain;
use crate::id::MachineId;
use crate::launch_request::{CloneInfo, HoldPolicy, Release, StartFailure};
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
    /// Reserve clones of the pool, of a server that releases its clones. -> `reserved`; then, for each
    /// [`ReleaseRequest`] on the same stream, `cloned` or `refused`. Those that were not released when the stream ends end,
    /// too.
    Reserve {
        /// How many at most.
        count: usize,
    },
}

/// Thaw a reserved clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReleaseRequest {
    /// Its index in the reply.
    pub(super) index: usize,
    /// Its id.
    pub(super) id: MachineId,
    /// Its settings.
    pub(super) overrides: CloneOverrides,
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
        /// The reason, for programs.
        #[serde(default)]
        failure: Option<Box<StartFailure>>,
    },
    /// These clones are reserved.
    Reserved {
        /// Their ids.
        ids: Vec<MachineId>,
        /// How many more are ready.
        remaining: usize,
    },
}

impl ServeReply {
    /// A refusal of which only the message is known.
    pub(super) fn refused(index: usize, message: String) -> Self {
        Self::Refused { index, message, failure: None }
    }

    /// The reply for the clone with this index.
    pub(super) fn new(index: usize, outcome: Result<CloneInfo, SpawnError>) -> Self {
        match outcome {
            Ok(clone) => Self::Cloned { index, clone: Box::new(clone) },
            Err(error) => {
                let message = chain(&error);
                Self::Refused { index, message, failure: Some(Box::new(error.into_failure())) }
            }
        }
    }
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
            Ok(ServeRequest::Reserve { count }) => return self.reserve(count, stream),
            Err(error) => {
                let message = format!("unreadable request: {error}");
                return stream.sender.message(&ServeReply::refused(0, message));
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
            let releases = self.pool.releases_clones;
            self.clones.spawn(async move {
                match method.start(requested, &permits, releases).await {
                    Ok((clone, info)) => {
                        stream.sender.message(&ServeReply::new(index, Ok(info)));
                        drop(stream);
                        if !releases {
                            hold_until_end(clone, end).await;
                        }
                    }
                    Err(error) => stream.sender.message(&ServeReply::new(index, Err(error))),
                }
            });
        }
        self.pool.fill(&self.engine);
    }

    /// Reserves clones of the pool.
    fn reserve(&mut self, count: usize, stream: Stream) {
        if !self.pool.releases_clones {
            let message = "this server does not release its clones".to_owned();
            return stream.sender.message(&ServeReply::refused(0, message));
        }
        let clones: Vec<_> = (0..count).map_while(|_| self.pool.take_ready()).collect();
        let ids = clones.iter().filter_map(|clone| MachineId::try_from(clone.id.clone()).ok()).collect();
        stream.sender.message(&ServeReply::Reserved { ids, remaining: self.pool.count_ready() });
        self.clones.spawn(reserved::release_on_request(clones, stream, self.end.subscribe()));
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
        releases_clones: bool,
    ) -> Result<(ServedClone, CloneInfo), SpawnError> {
        match self {
            Self::FromPool(mut clone, overrides) => {
                let release =
                    if releases_clones { Release::ProceedAlone } else { Release::ProceedAs }(overrides);
                match clone.supervisor.release(&release).await {
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
