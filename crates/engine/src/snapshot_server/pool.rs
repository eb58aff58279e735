//! Clones that are started before they are requested.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::page_server::SharedPageServer;
use super::record::ServeRecord;
use super::served_clone::{RequestedClone, ServedClone};
use crate::admission::Available;
use crate::cause::chain;
use crate::id::SnapshotId;
use crate::launch_request::{CloneRequest, HoldPolicy, LaunchRequest};
use crate::machine::{CloneOverrides, ServeReference};
use crate::supervisor_process::SpawnError;
use crate::{Engine, Home};

/// Consecutive failures after which the pool starts no more clones until one is requested.
const MAX_FAILURES: u32 = 3;

/// How long the pool leaves the CPUs to a clone that was taken, before it starts another in its place.
const QUIET: Duration = Duration::from_millis(100);

/// Clones that are ready, and those that are being started.
#[derive(Debug)]
pub(super) struct Pool {
    home: Home,
    snapshot: SnapshotId,
    serve: ServeReference,
    size: usize,
    page_server: Option<SharedPageServer>,
    /// Whether clones run on when the server ends.
    pub(super) releases_clones: bool,
    ready: VecDeque<ServedClone>,
    starting: JoinSet<Result<ServedClone, SpawnError>>,
    failures: u32,
    taken_at: Option<Instant>,
}

impl Pool {
    pub(super) fn new(home: Home, serve: &ServeRecord, page_server: Option<SharedPageServer>) -> Self {
        Self {
            home,
            snapshot: serve.snapshot.clone(),
            serve: ServeReference { id: serve.id.clone(), process: serve.process.clone() },
            size: serve.pool,
            page_server,
            releases_clones: serve.releases_clones,
            ready: VecDeque::new(),
            starting: JoinSet::new(),
            failures: 0,
            taken_at: None,
        }
    }

    /// Prepares the request for one more clone.
    pub(super) fn prepare_request(
        &mut self,
        hold: HoldPolicy,
        overrides: CloneOverrides,
    ) -> Result<RequestedClone, SpawnError> {
        let lease = self.page_server.as_mut().map(SharedPageServer::lease).transpose();
        let lease = lease.map_err(|source| SpawnError::Io { step: "serve pages to", source })?;
        let pager = lease.as_ref().map(|lease| lease.socket().to_owned());
        // A clone that waits in the pool ends with the server in any case.
        let is_own = hold == HoldPolicy::Pool || !self.releases_clones;
        let (snapshot, serve) = (self.snapshot.clone(), is_own.then(|| self.serve.clone()));
        let request =
            LaunchRequest::Clone(Box::new(CloneRequest { snapshot, hold, serve, pager, overrides }));
        Ok(RequestedClone { home: self.home.clone(), request, pages: lease })
    }

    /// Starts a missing clone; one at a time, so that requested clones get the CPUs first.
    pub(super) fn fill(&mut self, engine: &Engine) {
        // Drops clones that died in the pool.
        self.ready.retain_mut(|clone| clone.supervisor.is_alive());
        if !self.may_start() || self.start_at().is_some_and(|time| time > Instant::now()) {
            return;
        }
        let requested = self
            .prepare_request(HoldPolicy::Pool, CloneOverrides { remove: true, ..CloneOverrides::default() });
        let admitted = Available::now(engine).reserve_clone(engine);
        self.starting.spawn(async move {
            let _reservation = admitted?;
            Ok(requested?.start().await?.0)
        });
    }

    /// Whether a clone is missing, and may be started.
    fn may_start(&self) -> bool {
        self.ready.len() < self.size && self.starting.is_empty() && self.failures < MAX_FAILURES
    }

    /// When the next clone is started; none is now. More than half of the clones are missing only while many are requested:
    /// they are started meanwhile.
    fn start_at(&self) -> Option<Instant> {
        let taken_at = self.taken_at.filter(|_| self.ready.len() * 2 >= self.size)?;
        Some(taken_at + QUIET)
    }

    /// Takes a clone that is ready, if there is one.
    pub(super) fn take_ready(&mut self) -> Option<ServedClone> {
        self.failures = 0;
        self.ready.retain_mut(|clone| clone.supervisor.is_alive());
        self.taken_at = Some(Instant::now());
        self.ready.pop_front()
    }

    /// How many clones can be taken.
    pub(super) fn count_ready(&self) -> usize {
        self.ready.len()
    }

    /// Adds the next clone that was started, or waits until one is to be started. Does not return while neither is to be
    /// expected; cancellation-safe.
    pub(super) async fn step(&mut self) {
        let started = match self.starting.join_next().await {
            Some(started) => started,
            None => match self.start_at().filter(|_| self.may_start()) {
                Some(time) => return tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            },
        };
        match started {
            Ok(Ok(clone)) => {
                self.failures = 0;
                self.ready.push_back(clone);
            }
            Ok(Err(error)) => {
                self.failures += 1;
                tracing::warn!(
                    component = "pool",
                    error = chain(&error),
                    "cannot start a clone for the pool"
                );
            }
            Err(_) => self.failures += 1,
        }
    }

    /// Ends all clones in the pool.
    pub(super) async fn close(mut self) {
        self.starting.shutdown().await;
        for clone in self.ready {
            clone.abandon().await;
        }
    }
}
