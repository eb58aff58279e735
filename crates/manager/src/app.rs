//! What all handlers and tasks share.

use std::sync::Arc;

use mimeo_engine::Engine;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::database::Database;
use crate::live::{KeysInUse, LiveOperations, Notices, Pools, RateLimits, TokensUsed, Turns};
use crate::metrics::Metrics;
use crate::settings::{DescribeHost, Limits};

/// What all handlers and tasks share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    database: Database,
    operations: LiveOperations,
    turns: Turns,
    pools: Pools,
    tokens_used: TokensUsed,
    notices: Notices,
    allowed_hosts: Vec<String>,
    limits: RateLimits,
    keys_in_use: KeysInUse,
    metrics: Metrics,
    describe_host: DescribeHost,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl App {
    /// Creates it.
    pub(crate) fn new(
        engine: Engine,
        database: Database,
        allowed_hosts: Vec<String>,
        limits: &Limits,
        describe_host: DescribeHost,
    ) -> Self {
        let inner = Inner {
            engine,
            database,
            operations: LiveOperations::default(),
            turns: Turns::default(),
            pools: Pools::default(),
            tokens_used: TokensUsed::default(),
            notices: Notices::default(),
            allowed_hosts,
            limits: RateLimits::new(limits),
            keys_in_use: KeysInUse::default(),
            metrics: Metrics::new(),
            describe_host,
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The records.
    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    /// The operations that are being carried out.
    pub(crate) fn operations(&self) -> &LiveOperations {
        &self.inner.operations
    }

    /// Whose turn it is to change a machine.
    pub(crate) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// The pools of snapshots.
    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// The tokens that were used since their use was last recorded.
    pub(crate) fn tokens_used(&self) -> &TokensUsed {
        &self.inner.tokens_used
    }

    /// The machines whose end was announced.
    pub(crate) fn notices(&self) -> &Notices {
        &self.inner.notices
    }

    /// The names that the manager answers to, besides addresses and localhost.
    pub(crate) fn allowed_hosts(&self) -> &[String] {
        &self.inner.allowed_hosts
    }

    /// How many requests are answered.
    pub(crate) fn limits(&self) -> &RateLimits {
        &self.inner.limits
    }

    /// The idempotency keys of requests that are being carried out.
    pub(crate) fn keys_in_use(&self) -> &KeysInUse {
        &self.inner.keys_in_use
    }

    /// The figures.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Describes the host.
    pub(crate) fn describe_host(&self) -> serde_json::Value {
        (self.inner.describe_host)(&self.inner.engine)
    }

    /// Cancelled when the manager ends.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.inner.end
    }

    /// Runs a task that the manager waits for when it ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// Waits for all tasks.
    pub(crate) async fn finish_tasks(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
