//! The page server of a server's copies, where their memory is given to them page by page: there while there are any.
//!
//! It has a thread of its own, `mimeo-pager`: a guest that waits for a page waits for nothing else that its server does.
//! With the process it dies, and its copies are ended by what holds them all (`serve`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use mimeo_pager::Pages as PageSet;
use mimeo_pager::serve::{ClientExit, ExitReason, Options, PageServer};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::cause::chain;
use crate::durable;

const THREAD: &str = "mimeo-pager";

/// Gives copies their memory.
#[derive(Debug)]
pub(super) struct Pages {
    memory: PathBuf,
    /// Where pages that copies need first are noted.
    note: PathBuf,
    /// Bytes of memory.
    bytes: u64,
    /// Where sockets are made, one for each time that there are copies.
    dir: PathBuf,
    times: u32,
    current: std::sync::Weak<Serving>,
}

/// A page server that runs. It ends with the last who has this.
#[derive(Debug)]
struct Serving {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A copy's hold of the page server. Drop it when the clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Lease(Arc<Serving>);

impl Lease {
    /// Where the clone asks for its pages.
    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }
}

impl Pages {
    pub(super) fn new(memory: PathBuf, bytes: u64, note: PathBuf, dir: PathBuf) -> Self {
        Self { memory, note, bytes, dir, times: 0, current: std::sync::Weak::new() }
    }

    /// The page server for one more clone: started if this is the first.
    pub(super) fn lease(&mut self) -> io::Result<Lease> {
        if let Some(serving) = self.current.upgrade() {
            return Ok(Lease(serving));
        }
        self.times += 1;
        let socket = self.dir.join(format!("pages-{}.sock", self.times));
        let options = Options { prefetch: self.noted(), persistent: true, ..Options::default() };
        let server = PageServer::open(&self.memory, options).map_err(io::Error::other)?;
        let listener = std::os::unix::net::UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let note = self.note.clone();
        let thread = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || serve(&server, listener, stopped, &note))?;
        let serving = Arc::new(Serving { socket, stop: Some(stop), thread: Some(thread) });
        self.current = Arc::downgrade(&serving);
        Ok(Lease(serving))
    }

    /// What copies before have needed, if that is known.
    fn noted(&self) -> PageSet {
        let bytes = fs::read(&self.note).unwrap_or_default();
        PageSet::from_bytes(&bytes, self.bytes / mimeo_pager::PAGE).unwrap_or_default()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // One that has ended by itself hears nothing.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        fs::remove_file(&self.socket).ok();
    }
}

fn serve(
    server: &PageServer,
    listener: std::os::unix::net::UnixListener,
    stopped: oneshot::Receiver<()>,
    note: &Path,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener)?;
            let stop = async { stopped.await.unwrap_or_default() };
            Ok(server.run(listener, stop, |departure| tell(&departure)).await)
        })
    });
    match done {
        Ok(figures) => tracing::debug!(component = "pager", ?figures, "its last clone has left"),
        Err(error) => {
            tracing::warn!(component = "pager", error = chain(&error), "cannot give copies their memory")
        }
    }
    let needed = server.working_set();
    // The first to know writes it down, as for copies that map the memory.
    if !note.exists()
        && !needed.is_empty()
        && note.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok())
    {
        durable::write(note, &needed.to_bytes()).ok();
    }
}

fn tell(departure: &ClientExit) {
    match &departure.reason {
        ExitReason::Refused(why) => {
            tracing::warn!(
                component = "pager",
                pid = departure.pid,
                error = chain(why),
                "ended who asked for memory"
            );
        }
        ExitReason::Failed(why) => {
            tracing::warn!(component = "pager", pid = departure.pid, error = chain(why), "ended a copy");
        }
        _ => {
            tracing::debug!(component = "pager", pid = departure.pid, figures = ?departure.counters, "a clone has left")
        }
    }
}
