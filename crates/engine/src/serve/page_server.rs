//! The page server of a server's copies, where their memory is given to them page by page: there while there are any.
//!
//! It has a thread of its own, `mimeo-pager`: a guest that waits for a page waits for nothing else that its server does.
//! With the process it dies, and its copies are ended by what holds them all (`serve`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use mimeo_pager::Pages;
use mimeo_pager::serve::{ClientExit, ExitReason, Options, PageServer};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::cause::chain;
use crate::durable;

const THREAD_NAME: &str = "mimeo-pager";

/// Gives copies their memory.
#[derive(Debug)]
pub(super) struct SharedPageServer {
    memory: PathBuf,
    /// Where pages that copies need first are noted.
    working_set_file: PathBuf,
    /// Bytes of memory.
    bytes: u64,
    /// Where sockets are made, one for each time that there are copies.
    dir: PathBuf,
    starts: u32,
    current: std::sync::Weak<RunningPageServer>,
}

/// A page server that runs. It ends with the last who has this.
#[derive(Debug)]
struct RunningPageServer {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A copy's hold of the page server. Drop it when the clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Lease(Arc<RunningPageServer>);

impl Lease {
    /// Where the clone asks for its pages.
    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }
}

impl SharedPageServer {
    pub(super) fn new(memory: PathBuf, bytes: u64, working_set_file: PathBuf, dir: PathBuf) -> Self {
        Self { memory, working_set_file, bytes, dir, starts: 0, current: std::sync::Weak::new() }
    }

    /// The page server for one more clone: started if this is the first.
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

    /// What copies before have needed, if that is known.
    fn recorded_working_set(&self) -> Pages {
        let bytes = fs::read(&self.working_set_file).unwrap_or_default();
        Pages::from_bytes(&bytes, self.bytes / mimeo_pager::PAGE).unwrap_or_default()
    }
}

impl Drop for RunningPageServer {
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
        Ok(figures) => tracing::debug!(component = "pager", ?figures, "its last clone has left"),
        Err(error) => {
            tracing::warn!(component = "pager", error = chain(&error), "cannot give copies their memory")
        }
    }
    let working_set = server.working_set();
    // The first to know writes it down, as for copies that map the memory.
    if !working_set_file.exists()
        && !working_set.is_empty()
        && working_set_file.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok())
    {
        durable::write(working_set_file, &working_set.to_bytes()).ok();
    }
}

fn log_exit(exit: &ClientExit) {
    match &exit.reason {
        ExitReason::Refused(error) => {
            tracing::warn!(
                component = "pager",
                pid = exit.pid,
                error = chain(error),
                "ended who asked for memory"
            );
        }
        ExitReason::Failed(error) => {
            tracing::warn!(component = "pager", pid = exit.pid, error = chain(error), "ended a copy");
        }
        _ => {
            tracing::debug!(component = "pager", pid = exit.pid, figures = ?exit.counters, "a clone has left")
        }
    }
}
