//! Copies that are ready before somebody wants them.

use std::collections::VecDeque;

use tokio::task::JoinSet;

use super::page_server::SharedPageServer;
use super::record::ServeRecord;
use super::served_clone::{RequestedClone, ServedClone};
use crate::Engine;
use crate::admission::AvailableMemory;
use crate::cause::chain;
use crate::id::SnapshotId;
use crate::launch_request::{CloneRequest, HoldPolicy, LaunchRequest};
use crate::machine::{CloneOverrides, ServeReference};
use crate::supervisor_process::SpawnError;

/// Failures in a row after which no more copies are made until one is asked for.
const MAX_FAILURES: u32 = 3;

/// Copies that hold, and those that are being made.
#[derive(Debug)]
pub(super) struct Pool {
    snapshot: SnapshotId,
    serve: ServeReference,
    size: usize,
    page_server: Option<SharedPageServer>,
    ready: VecDeque<ServedClone>,
    starting: JoinSet<Result<ServedClone, SpawnError>>,
    failures: u32,
}

impl Pool {
    pub(super) fn new(serve: &ServeRecord, page_server: Option<SharedPageServer>) -> Self {
        Self {
            snapshot: serve.snapshot.clone(),
            serve: ServeReference { id: serve.id.clone(), process: serve.process.clone() },
            size: serve.pool,
            page_server,
            ready: VecDeque::new(),
            starting: JoinSet::new(),
            failures: 0,
        }
    }

    /// What makes one more clone.
    pub(super) fn request_clone(
        &mut self,
        hold: HoldPolicy,
        overrides: CloneOverrides,
    ) -> Result<RequestedClone, SpawnError> {
        let lease = self.page_server.as_mut().map(SharedPageServer::lease).transpose();
        let lease = lease.map_err(|source| SpawnError::Io { step: "serve pages to", source })?;
        let pager = lease.as_ref().map(|lease| lease.socket().to_owned());
        let (snapshot, serve) = (self.snapshot.clone(), Some(self.serve.clone()));
        let request =
            LaunchRequest::Clone(Box::new(CloneRequest { snapshot, hold, serve, pager, overrides }));
        Ok(RequestedClone { request, pages: lease })
    }

    /// Begins to make those that are missing. One at a time: who waits for a
    /// clone has the processors first.
    pub(super) fn fill(&mut self, engine: &Engine) {
        // One that died while it waited is nobody's.
        self.ready.retain_mut(|clone| clone.supervisor.is_alive());
        if self.ready.len() >= self.size || !self.starting.is_empty() || self.failures >= MAX_FAILURES {
            return;
        }
        let requested = self
            .request_clone(HoldPolicy::Pool, CloneOverrides { remove: true, ..CloneOverrides::default() });
        let admitted = AvailableMemory::now(engine).admit();
        self.starting.spawn(async move {
            admitted?;
            Ok(requested?.start().await?.0)
        });
    }

    /// One that is ready; none when there is none.
    pub(super) fn take_ready(&mut self) -> Option<ServedClone> {
        self.failures = 0;
        self.ready.retain_mut(|clone| clone.supervisor.is_alive());
        self.ready.pop_front()
    }

    /// Takes in the next clone that was made. Never returns while none is
    /// being made; safe to cancel.
    pub(super) async fn step(&mut self) {
        let started = match self.starting.join_next().await {
            Some(started) => started,
            None => std::future::pending().await,
        };
        match started {
            Ok(Ok(clone)) => {
                self.failures = 0;
                self.ready.push_back(clone);
            }
            Ok(Err(error)) => {
                self.failures += 1;
                tracing::warn!(component = "pool", error = chain(&error), "a clone could not be started");
            }
            Err(_) => self.failures += 1,
        }
    }

    /// Gives up all that wait.
    pub(super) async fn close(mut self) {
        self.starting.shutdown().await;
        for clone in self.ready {
            clone.abandon().await;
        }
    }
}
