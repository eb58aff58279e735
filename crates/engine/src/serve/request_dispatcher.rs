//! What a server does for those who ask.

use std::sync::Arc;

use bytes::Bytes;
use mimeo_agent_protocol::link::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::pool::Pool;
use super::served_clone::{RequestedClone, ServedClone};
use crate::Engine;
use crate::admission::AvailableMemory;
use crate::cause::chain;
use crate::launch_request::{CloneInfo, HoldPolicy, Release};
use crate::machine::CloneOverrides;
use crate::supervisor_process::{SpawnError, start_permits};

/// A request as it came, and where its answers go.
pub(super) type PendingRequest = (Bytes, Stream);

/// What a server is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum ServeRequest {
    /// Start a clone for each. -> `cloned` or `refused` for each, in any order
    Clone {
        /// What each is to be.
        #[serde(rename = "wishes")]
        overrides: Vec<CloneOverrides>,
    },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum ServeReply {
    /// A clone runs.
    Cloned {
        /// Its place in the request.
        #[serde(rename = "place")]
        index: usize,
        /// What it is.
        clone: Box<CloneInfo>,
    },
    /// There is no clone.
    Refused {
        /// Its place in the request.
        #[serde(rename = "place")]
        index: usize,
        /// Why.
        message: String,
    },
}

/// A server's copies, and those that are ready.
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

    /// Begins what is asked for; the answers come when they come.
    pub(super) fn handle_request(&mut self, (request, stream): PendingRequest) {
        let overrides = match serde_json::from_slice(&request) {
            Ok(ServeRequest::Clone { overrides }) => overrides,
            Err(error) => {
                let message = format!("unreadable request: {error}");
                return stream.sender.message(&ServeReply::Refused { index: 0, message });
            }
        };
        // Whole: a receiver that goes would take the answers' way with it.
        let stream = Arc::new(stream);
        let mut memory = None;
        for (index, overrides) in overrides.into_iter().enumerate() {
            let method = match self.pool.take_ready() {
                // It has its memory already.
                Some(clone) => StartMethod::FromPool(Box::new(clone), overrides.clone()),
                None => match memory.get_or_insert_with(|| AvailableMemory::now(&self.engine)).admit() {
                    Ok(()) => StartMethod::New,
                    Err(refusal) => StartMethod::Refuse(refusal.into()),
                },
            };
            let requested = self.pool.request_clone(HoldPolicy::Never, overrides);
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

    /// One step of what goes on by itself. Safe to cancel.
    pub(super) async fn step(&mut self) {
        tokio::select! {
            () = self.pool.step() => self.pool.fill(&self.engine),
            Some(_) = self.clones.join_next() => {}
        }
    }

    /// Ends all copies, and waits until nothing is left of them.
    pub(super) async fn close(mut self) {
        self.end.send_replace(true);
        self.pool.close().await;
        while self.clones.join_next().await.is_some() {}
    }
}

enum StartMethod {
    FromPool(Box<ServedClone>, CloneOverrides),
    New,
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
                    // It died while it waited.
                    Err(SpawnError::Gone) => start_new(requested?, permits).await,
                    Err(error) => Err(error),
                }
            }
            Self::New => start_new(requested?, permits).await,
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

/// Holds the pipe that keeps the clone alive.
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
