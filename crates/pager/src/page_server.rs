//! A page server: answers the page faults of clones that a VMM restores.
//!
//! A VMM such as Firecracker maps empty memory, registers it with a userfaultfd, and sends that descriptor
//! over a socket with a list of its memory regions. From then on the first access to each page is a fault,
//! which waits until it is answered. One server serves all clones of a snapshot from one mapping of one file.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_pager::page_server::{Options, PageServer};
//!
//! let server = PageServer::open(Path::new("memory"), Options::default())?;
//! let listener = tokio::net::UnixListener::bind("pages.sock")?;
//! let counters = server.run(listener, std::future::pending(), |exit| eprintln!("{exit:?}")).await;
//! std::fs::write("memory.pages", server.working_set().to_bytes())?;
//! # drop(counters);
//! # Ok(())
//! # }
//! ```

mod clone;
mod counters;
mod error;
mod handshake;
mod listener;
mod memory;
mod peer;
mod regions;
mod service;
mod space;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{FileError, Pages};
use listener::Listener;
use memory::SnapshotMemory;

pub use counters::Counters;
pub use error::{HandshakeError, ServeError};

/// A VMM sends its whole message right after it connects. Ten seconds allow for an overloaded host.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages installed per fault, chosen from measurements of a real guest: a clone of a booted guest of 512 MiB
/// that had run two programs had written to 2,031 pages. One by one these are 2,031 faults; with blocks of 2,
/// 4, 8 and 16 pages they are 1,171, 716, 441 and 277, for which 2,202, 2,515, 2,921 and 3,485 pages are
/// copied. When 64 MiB are read sequentially, a page takes 5.0 us alone, and 3.5, 2.8, 2.3 and 2.2 us in such
/// blocks; 99 of 100 faults take at most 13 us alone, and 13, 16, 22 and 34 us in blocks. From 8 on memory
/// grows faster than the time falls.
const FAULT_AROUND_PAGES: u64 = 8;

/// Options of a page server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages to install in each clone before it touches them: the working set of earlier clones.
    pub prefetch: Pages,
    /// The most pages installed per fault: the faulting page, and those after it up to a multiple of this
    /// number.
    pub fault_around: u64,
    /// How long a client may take for its handshake message.
    pub handshake_timeout: Duration,
    /// Keep serving when the last clone has exited. Without this, the server ends then.
    pub persistent: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefetch: Pages::default(),
            fault_around: FAULT_AROUND_PAGES,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            persistent: false,
        }
    }
}

/// Why a client is no longer served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExitReason {
    /// It exited, by itself or killed by another process.
    Exited,
    /// It was killed because the server was stopped.
    Stopped,
    /// Its handshake was refused, and it was killed.
    Refused(HandshakeError),
    /// It could not be served any longer, and was killed.
    Failed(ServeError),
}

/// The end of a client.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClientExit {
    /// Its PID; 0 if unknown.
    pub pid: u32,
    /// Why it is no longer served.
    pub reason: ExitReason,
    /// What was done for it.
    pub counters: Counters,
}

/// Serves the memory of one snapshot to all its clones.
#[derive(Debug)]
pub struct PageServer {
    shared: Arc<Shared>,
}

/// State shared by the tasks and threads of all clones.
#[derive(Debug)]
struct Shared {
    memory: Arc<SnapshotMemory>,
    options: Options,
    counters: Mutex<Counters>,
}

impl PageServer {
    /// Maps a memory file, which must not change from then on.
    ///
    /// # Errors
    /// When the file is empty or cannot be read or mapped.
    pub fn open(memory: &Path, options: Options) -> Result<Self, FileError> {
        let memory = Arc::new(SnapshotMemory::open(memory)?);
        let counters = Mutex::new(Counters::default());
        Ok(Self { shared: Arc::new(Shared { memory, options, counters }) })
    }

    /// Serves each connecting client in a task of its own, until all clones have exited after at least one
    /// was served (unless it is [persistent](Options::persistent)), or until `stop` resolves: then the remaining
    /// clients are killed first. Calls `on_exit` for each client that ends.
    ///
    /// A client that cannot be served is killed. Dropping this future also kills all clones.
    pub async fn run(
        &self,
        socket: UnixListener,
        stop: impl Future<Output = ()>,
        mut on_exit: impl FnMut(ClientExit),
    ) -> Counters {
        self.read_ahead();
        let mut stop = pin!(stop);
        let (stop_sender, stopped) = watch::channel(false);
        let mut listener = Listener::new(socket);
        let mut clones = JoinSet::<ClientExit>::new();
        let mut has_served = false;
        while listener.is_open() || !clones.is_empty() {
            let accepted = tokio::select! {
                () = &mut stop, if !*stopped.borrow() => {
                    stop_sender.send_replace(true);
                    listener.close()
                }
                stream = listener.accept(), if listener.is_open() => vec![stream],
                Some(done) = clones.join_next() => {
                    // A task that panicked has already killed its clone on drop.
                    if let Ok(exit) = done {
                        has_served |= !matches!(exit.reason, ExitReason::Refused(_));
                        on_exit(exit);
                    }
                    if has_served && clones.is_empty() && !self.shared.options.persistent { listener.close() } else { Vec::new() }
                }
            };
            for stream in accepted {
                clones.spawn(clone::serve(Arc::clone(&self.shared), stream, stopped.clone()));
            }
        }
        self.counters()
    }

    /// What has been done so far for all clients.
    #[must_use]
    pub fn counters(&self) -> Counters {
        *self.shared.counters()
    }

    /// The pages that faults of clones have installed so far, including their neighbours. Prefetched pages
    /// are not included.
    #[must_use]
    pub fn working_set(&self) -> Pages {
        self.shared.memory.faulted()
    }

    /// Reads the prefetched pages into the page cache, so that copying them does not wait for the disk.
    fn read_ahead(&self) {
        let shared = Arc::clone(&self.shared);
        if !shared.options.prefetch.is_empty() {
            tokio::task::spawn_blocking(move || shared.memory.read_ahead(&shared.options.prefetch));
        }
    }
}

impl Shared {
    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the shared counters. A lock taken for each fault costs as little here as atomics did.
    fn add(&self, done: Counters) {
        *self.counters() += done;
    }

    /// Records the end of a client that was not served.
    fn record_exit(&self, pid: u32, reason: ExitReason) -> ClientExit {
        self.record_exit_after(pid, reason, Counters::default())
    }

    /// Records the end of a client that was served.
    fn record_exit_after(&self, pid: u32, reason: ExitReason, mut counters: Counters) -> ClientExit {
        let [refused, failed] =
            [matches!(reason, ExitReason::Refused(_)), matches!(reason, ExitReason::Failed(_))]
                .map(u64::from);
        let last = Counters { refused, failed, ..Counters::default() };
        self.add(last);
        counters += last;
        ClientExit { pid, reason, counters }
    }
}
