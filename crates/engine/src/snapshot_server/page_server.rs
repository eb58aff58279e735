//! The page server of a snapshot server, which supplies its clones' memory page by page. It runs while
//! there are clones.
//!
//! It has its own thread, `mimeo-pager`, so that no other work of the snapshot server delays a page fault.
//! The thread ends with the process; the clones end then, too (`serve`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use mimeo_pager::Pages;
use mimeo_pager::page_server::{ClientExit, ExitReason, Options, PageServer};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::cause::chain;
use crate::durable;
use crate::ignored::LogIgnored;

const THREAD_NAME: &str = "mimeo-pager";

/// Starts the page server that all clones share.
#[derive(Debug)]
pub(super) struct SharedPageServer {
    memory: PathBuf,
    /// File of the working set: the pages that clones need first.
    working_set_file: PathBuf,
    /// Size of the memory in bytes.
    bytes: u64,
    /// Directory of the sockets, one for each start of the page server.
    dir: PathBuf,
    starts: u32,
    current: std::sync::Weak<RunningPageServer>,
}

/// A running page server. It ends when the last reference is dropped.
#[derive(Debug)]
struct RunningPageServer {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A clone's reference to the page server. Drop it when the clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Lease(Arc<RunningPageServer>);

impl Lease {
    /// The socket at which the clone requests its pages.
    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }
}

impl SharedPageServer {
    pub(super) fn new(memory: PathBuf, bytes: u64, working_set_file: PathBuf, dir: PathBuf) -> Self {
        Self { memory, working_set_file, bytes, dir, starts: 0, current: std::sync::Weak::new() }
    }

    /// Returns a reference for one more clone; starts the page server if this is the first.
    pub(super) fn lease(&mut self) -> io::Result<Lease> {
        if let Some(running) = self.current.upgrade() {
            return Ok(Lease(running));
        }
        self.starts += 1;
        let socket = self.dir.join(format!("pages-{}.sock", self.starts));
        let options =
            Options { prefetch: self.recorded_working_set(), persistent: true, ..Options::default() };
        let server = PageServer::open(&self.memory, options).map_err(io::Error::other)?;
        let listener = std::os::unix::net::UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let working_set_file = self.working_set_file.clone();
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || run_page_server(&server, listener, stopped, &working_set_file))?;
        let running = Arc::new(RunningPageServer { socket, stop: Some(stop), thread: Some(thread) });
        self.current = Arc::downgrade(&running);
        Ok(Lease(running))
    }

    /// The working set of earlier clones, if it was recorded.
    fn recorded_working_set(&self) -> Pages {
        let bytes = fs::read(&self.working_set_file).unwrap_or_default();
        Pages::from_bytes(&bytes, self.bytes / mimeo_pager::PAGE).unwrap_or_default()
    }
}

impl Drop for RunningPageServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone if the page server has already ended.
            stop.send(()).ok();
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!(component = "pager", "the page server's thread panicked");
        }
        fs::remove_file(&self.socket).log_ignored("remove", &self.socket);
    }
}

fn run_page_server(
    server: &PageServer,
    listener: std::os::unix::net::UnixListener,
    stopped: oneshot::Receiver<()>,
    working_set_file: &Path,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener)?;
            let stop = async { stopped.await.unwrap_or_default() };
            Ok(server.run(listener, stop, |exit| log_exit(&exit)).await)
        })
    });
    match result {
        Ok(figures) => tracing::debug!(component = "pager", ?figures, "the last clone has exited"),
        Err(error) => {
            tracing::warn!(component = "pager", error = chain(&error), "cannot serve pages")
        }
    }
    let working_set = server.working_set();
    // Recorded once, as for clones that map the memory.
    if !working_set_file.exists()
        && !working_set.is_empty()
        && working_set_file.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok())
    {
        durable::write(working_set_file, &working_set.to_bytes()).log_ignored("write", working_set_file);
    }
}

fn log_exit(exit: &ClientExit) {
    match &exit.reason {
        ExitReason::Refused(error) => {
            tracing::warn!(
                component = "pager",
                pid = exit.pid,
                error = chain(error),
                "refused a client and killed it"
            );
        }
        ExitReason::Failed(error) => {
            tracing::warn!(
                component = "pager",
                pid = exit.pid,
                error = chain(error),
                "cannot serve a clone and killed it"
            );
        }
        _ => {
            tracing::debug!(component = "pager", pid = exit.pid, figures = ?exit.counters, "a clone has exited")
        }
    }
}
