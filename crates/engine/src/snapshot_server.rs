//! Snapshot servers: a process that starts clones of one snapshot, keeps a pool of them ready if requested,
//! and ends its clones when it ends.
//!
//! The supervisors of its clones read a pipe from the server. The kernel closes the pipe however the server
//! ends; the supervisors then end their machines and clean up. A server that releases its clones keeps only those that
//! wait in its pool: the others run on when it ends.

mod client;
mod options;
mod page_server;
mod pool;
mod record;
mod request_dispatcher;
mod reserved;
mod served_clone;

use std::time::Duration;

use mimeo_agent_protocol::link::{self, FrameReader};
use rustix::process::Signal;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::id::SnapshotId;
use crate::io_error::IoContext;
use crate::snapshot::{self, LoadError, Snapshot, StoreError};
use crate::{Engine, driver, working_set};
pub use client::{Reservation, ServeClientError, reserve, start_clones};
pub use options::ServeOptions;
use page_server::SharedPageServer;
use pool::Pool;
pub(crate) use record::sweep;
use record::{SOCKET, ServeClaim};
pub use record::{ServeError, ServeRecord, find, list};
use request_dispatcher::RequestDispatcher;

/// Requests that may be queued.
const MAX_QUEUED_REQUESTS: usize = 64;

/// Pause after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Serves the snapshot until a signal arrives; then ends the clones.
///
/// # Errors
/// When the snapshot cannot be loaded on this host, or the socket cannot be opened.
pub async fn serve(
    engine: &Engine,
    snapshot: &Snapshot,
    options: ServeOptions,
    started: impl FnOnce(&ServeRecord),
) -> Result<(), ServeError> {
    let store = engine.snapshots();
    let ServeOptions { pool, pager, releases_clones } = options;
    if pager && releases_clones {
        return Err(ServeError::PagerReleases);
    }
    if snapshot.manifest.machine.is_none() {
        return Err(LoadError::BootSnapshot.into());
    }
    let requires = &snapshot.manifest.requires;
    let driver = driver::find(engine, &requires.driver);
    if pager && !driver.is_ok_and(|driver| driver.capabilities().pager) {
        return Err(ServeError::NoPager { driver: requires.driver.clone() });
    }
    if snapshot.manifest.is_disk_only() {
        return Err(LoadError::DiskOnly.into());
    }
    snapshot::verify(&store, snapshot)?;
    let memory = snapshot::flatten_memory(&store, snapshot)?;
    let claim = ServeClaim::create(engine, snapshot, pool, releases_clones)?;
    let page_server = pager.then(|| {
        let working_set_file = working_set::record_path(&store, &snapshot.manifest.id);
        SharedPageServer::new(
            memory,
            u64::from(requires.memory_mib) << 20,
            working_set_file,
            claim.run_dir().to_owned(),
        )
    });
    // The claim protects the snapshot from removal; it may have been removed just before.
    store.read(&snapshot.manifest.id)?;
    let socket = claim.record.socket.clone();
    let listener = UnixListener::bind(&socket).at("listen on", &socket)?;
    let mut end_signals = EndSignals::listen()?;
    started(&claim.record);
    let mut dispatcher =
        RequestDispatcher::new(engine.clone(), Pool::new(engine.home().clone(), &claim.record, page_server));
    let (request_sender, mut requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let mut sessions = JoinSet::new();
    dispatcher.pool.fill(engine);
    loop {
        tokio::select! {
            signal = end_signals.next() => {
                tracing::info!(component = "serve", ?signal, "the server ends");
                break;
            }
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    sessions.spawn(serve_client(socket, request_sender.clone()));
                }
                // Most likely EMFILE: wait until a session has ended.
                Err(error) => {
                    tracing::warn!(component = "serve", %error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(request) = requests.recv() => dispatcher.handle_request(request),
            () = dispatcher.step() => {}
            Some(_) = sessions.join_next() => {}
        }
    }
    drop(listener);
    tokio::select! {
        () = dispatcher.close() => {}
        // A second signal: do not wait. The clones end when the pipe is closed.
        _ = end_signals.next() => {}
    }
    drop(claim);
    Ok(())
}

/// The ids of the servers of a snapshot.
pub(crate) fn server_ids(engine: &Engine, id: &SnapshotId) -> Vec<String> {
    let serves = list(engine).unwrap_or_default().into_iter();
    serves.filter(|serve| serve.snapshot == *id).map(|serve| serve.id).collect()
}

async fn serve_client(socket: UnixStream, requests: mpsc::Sender<request_dispatcher::PendingRequest>) {
    let (reader, writer) = socket.into_split();
    let name = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
    let Ok(mut accepted) = link::accept(FrameReader::new(reader), writer, name).await else { return };
    while let Some((request, stream)) = accepted.incoming.next().await {
        // A server that ends drops the stream, which the client notices.
        requests.send((request, stream)).await.ok();
    }
}

/// The signals that end a server.
struct EndSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl EndSignals {
    fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).at("listen to signals for", SOCKET);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
