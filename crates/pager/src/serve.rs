//! A page server: the memory of clones that a VMM restores, given to them page by page.
//!
//! A VMM such as Firecracker maps memory without content, registers it with a userfaultfd, and sends that to a socket,
//! with a list of where its memory lies. From then on each page that a guest touches for the first time is a fault, which
//! waits until it is answered. All clones of a snapshot are served by one server, from one mapping of one file.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use mimeo_pager::serve::{Options, PageServer};
//!
//! let server = PageServer::open(Path::new("memory"), Options::default())?;
//! let listener = tokio::net::UnixListener::bind("pages.sock")?;
//! let figures = server.run(listener, std::future::pending(), |gone| eprintln!("{gone:?}")).await;
//! std::fs::write("memory.pages", server.working_set().to_bytes())?;
//! # drop(figures);
//! # Ok(())
//! # }
//! ```

mod clone;
mod door;
mod error;
mod figures;
mod handshake;
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
use door::Door;
use memory::Memory;

pub use error::{HandshakeError, ServeError};
pub use figures::Figures;

/// A VMM connects and says all in the same breath. Ten seconds are for a host that has no breath left.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages that a fault brings in, chosen by what a real guest did: a copy of a booted one of 512 MiB that had run two
/// programs had written to 2,031 pages. Alone they are as many faults; with blocks of 2, 4, 8 and 16 pages they are 1,171,
/// 716, 441 and 277, for which 2,202, 2,515, 2,921 and 3,485 pages are copied. A page of 64 MiB that are read one after
/// the other takes 5.0 us alone, and 3.5, 2.8, 2.3 and 2.2 us in such blocks; 99 of 100 faults take 13 us at most, and 13,
/// 16, 22 and 34. From 8 on the memory grows faster than the time goes down.
const AROUND: u64 = 8;

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages that each clone gets before it asks for them: a working set of clones before.
    pub prefetch: Pages,
    /// Pages that one fault brings in at most: the one that is waited for, and those after it up to a multiple of this.
    pub around: u64,
    /// How long a process that has connected may take to say all.
    pub patience: Duration,
    /// It serves on when the last clone has left: somebody else knows when no more will come.
    pub lasting: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { prefetch: Pages::default(), around: AROUND, patience: PATIENCE, lasting: false }
    }
}

/// How it ended for a process that had connected.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// It ended by itself, or by somebody else's hand.
    Left,
    /// It was ended, since the server was told to end.
    Stopped,
    /// It was no clone, and was ended.
    Refused(HandshakeError),
    /// It could not be served any longer, and was ended.
    Failed(ServeError),
}

/// A process that had connected and is no more.
#[derive(Debug)]
#[non_exhaustive]
pub struct Departure {
    /// Which; 0 where it is not known.
    pub pid: u32,
    /// How.
    pub end: End,
    /// What was done for it.
    pub figures: Figures,
}

/// Serves the memory of one snapshot to all clones of it.
#[derive(Debug)]
pub struct PageServer {
    shared: Arc<Shared>,
}

/// What all clones have in common.
#[derive(Debug)]
struct Shared {
    memory: Arc<Memory>,
    options: Options,
    figures: Mutex<Figures>,
}

impl PageServer {
    /// Maps a memory file, which nobody may change from then on.
    ///
    /// # Errors
    /// When the file cannot be read or mapped, as one that is empty.
    pub fn open(memory: &Path, options: Options) -> Result<Self, FileError> {
        let memory = Arc::new(Memory::open(memory)?);
        let figures = Mutex::new(Figures::default());
        Ok(Self { shared: Arc::new(Shared { memory, options, figures }) })
    }

    /// Serves who connects, a task for each, until the last clone has left after at least one has come (unless it is
    /// [lasting](Options::lasting)), or until it is told to stop: then those that are left are ended first. Each departure is told at once.
    ///
    /// Whatever is at the other end of the socket is ended if it is no clone that can be served. Where this future is
    /// dropped, all clones are ended as well.
    pub async fn run(
        &self,
        listener: UnixListener,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(Departure),
    ) -> Figures {
        self.read_ahead();
        let mut stop = pin!(stop);
        let (stopping, stopped) = watch::channel(false);
        let mut door = Door::new(listener);
        let mut clones = JoinSet::<Departure>::new();
        let mut came = false;
        while door.is_open() || !clones.is_empty() {
            let late = tokio::select! {
                () = &mut stop, if !*stopped.borrow() => {
                    stopping.send_replace(true);
                    door.close()
                }
                stream = door.next(), if door.is_open() => vec![stream],
                Some(done) = clones.join_next() => {
                    // A task that panicked has ended its clone when it was dropped.
                    if let Ok(departure) = done {
                        came |= !matches!(departure.end, End::Refused(_));
                        tell(departure);
                    }
                    if came && clones.is_empty() && !self.shared.options.lasting { door.close() } else { Vec::new() }
                }
            };
            for stream in late {
                clones.spawn(clone::serve(Arc::clone(&self.shared), stream, stopped.clone()));
            }
        }
        self.figures()
    }

    /// What has been done so far for all.
    #[must_use]
    pub fn figures(&self) -> Figures {
        *self.shared.figures()
    }

    /// The pages of the memory that clones have waited for so far, with those that came along. What was given to them
    /// beforehand is not among them.
    #[must_use]
    pub fn working_set(&self) -> Pages {
        self.shared.memory.asked()
    }

    /// Has what clones will get first be there when it is copied, which then waits for no disk.
    fn read_ahead(&self) {
        let shared = Arc::clone(&self.shared);
        if !shared.options.prefetch.is_empty() {
            tokio::task::spawn_blocking(move || shared.memory.read_ahead(&shared.options.prefetch));
        }
    }
}

impl Shared {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what has been done. A lock that many take for each fault costs as little here as atomics did.
    fn add(&self, done: Figures) {
        *self.figures() += done;
    }

    /// Counts who was not served.
    fn depart(&self, pid: u32, end: End) -> Departure {
        self.depart_after(pid, end, Figures::default())
    }

    /// Counts how it ended for one for whom all this was done.
    fn depart_after(&self, pid: u32, end: End, mut figures: Figures) -> Departure {
        let [refused, failed] =
            [matches!(end, End::Refused(_)), matches!(end, End::Failed(_))].map(u64::from);
        let last = Figures { refused, failed, ..Figures::default() };
        self.add(last);
        figures += last;
        Departure { pid, end, figures }
    }
}
