//! Servers of snapshots: a process that starts copies of one snapshot, keeps
//! some ready when it is asked to, and whose end is the end of its copies.
//!
//! Its copies' monitors hold a pipe from it; the kernel closes that however
//! the server ends, and they then end their machines and clear away.

mod client;
mod pages;
mod pool;
mod record;
mod request_dispatcher;
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
pub use client::{AskError, run};
use pages::Pages;
use pool::Pool;
pub(crate) use record::sweep;
use record::{SOCKET, ServeClaim};
pub use record::{ServeError, ServeRecord, find, list};
use request_dispatcher::RequestDispatcher;

/// Requests that may wait.
const QUEUE: usize = 64;

/// After a client that could not be let in.
const BREATH: Duration = Duration::from_millis(50);

/// Serves the snapshot until a signal asks for the end; then its copies end.
///
/// # Errors
/// When the snapshot cannot be loaded here, or the socket cannot be opened.
pub async fn serve(
    engine: &Engine,
    snapshot: &Snapshot,
    pool: usize,
    pager: bool,
    started: impl FnOnce(&ServeRecord),
) -> Result<(), ServeError> {
    let store = engine.snapshots();
    if snapshot.manifest.machine.is_none() {
        return Err(LoadError::Runtime.into());
    }
    let requires = &snapshot.manifest.requires;
    let driver = driver::named(engine, &requires.driver);
    if pager && !driver.is_ok_and(|driver| driver.capabilities().pager) {
        return Err(ServeError::NoPager { driver: requires.driver.clone() });
    }
    snapshot::verify(&store, snapshot)?;
    let memory = snapshot::flatten_memory(&store, snapshot)?;
    let claim = ServeClaim::make(engine, snapshot, pool)?;
    let pages = pager.then(|| {
        let note = working_set::file(&store, &snapshot.manifest.id);
        Pages::new(memory, u64::from(requires.memory_mib) << 20, note, claim.directory().to_owned())
    });
    // From here on it cannot be removed; it may just have been.
    store.read(&snapshot.manifest.id)?;
    let socket = claim.record.socket.clone();
    let listener = UnixListener::bind(&socket).at("listen on", &socket)?;
    let mut end = Ends::listen()?;
    started(&claim.record);
    let mut dispatcher = RequestDispatcher::new(engine.clone(), Pool::new(&claim.record, pages));
    let (ask, mut asked) = mpsc::channel(QUEUE);
    let mut sessions = JoinSet::new();
    dispatcher.pool.fill(engine);
    loop {
        tokio::select! {
            signal = end.any() => {
                tracing::info!(component = "serve", ?signal, "ends");
                break;
            }
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    sessions.spawn(session(socket, ask.clone()));
                }
                // Too many files are open: those who have one finish first.
                Err(error) => {
                    tracing::warn!(component = "serve", %error, "cannot accept a client");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(request) = asked.recv() => dispatcher.answer(request),
            () = dispatcher.turn() => {}
            Some(_) = sessions.join_next() => {}
        }
    }
    drop(listener);
    tokio::select! {
        () = dispatcher.close() => {}
        // Whoever asks twice does not want to wait: its copies hear of its end all the same.
        _ = end.any() => {}
    }
    drop(claim);
    Ok(())
}

/// The ids of those that serve a snapshot.
pub(crate) fn serving(engine: &Engine, id: &SnapshotId) -> Vec<String> {
    let serves = list(engine).unwrap_or_default().into_iter();
    serves.filter(|serve| serve.snapshot == *id).map(|serve| serve.id).collect()
}

async fn session(socket: UnixStream, ask: mpsc::Sender<request_dispatcher::PendingRequest>) {
    let (reader, writer) = socket.into_split();
    let name = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
    let Ok(mut accepted) = link::accept(FrameReader::new(reader), writer, name).await else { return };
    while let Some((request, stream)) = accepted.incoming.next().await {
        // A server that ends drops the stream, which tells the client.
        ask.send((request, stream)).await.ok();
    }
}

/// The signals that end a server.
struct Ends {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Ends {
    fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).at("listen to signals for", SOCKET);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
