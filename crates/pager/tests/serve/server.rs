//! A page server on its own runtime, and the memory that it serves.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use mimeo_pager::page_server::{ClientExit, Counters, Options, PageServer};
use mimeo_pager::{PAGE, Pages};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Everything happens within milliseconds; a busy host may take longer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Writes a memory file of `pages` pages with data in these and holes elsewhere; returns its content.
pub(crate) fn write_memory(file: &Path, pages: u64, data: &[std::ops::Range<u64>]) -> Vec<u8> {
    let open = File::create(file).unwrap();
    open.set_len(pages * PAGE).unwrap();
    for page in data.iter().cloned().flatten() {
        let bytes: Vec<_> = (0..PAGE).map(|at| (page * 7 + at / 9 % 250 + 1) as u8).collect();
        open.write_all_at(&bytes, page * PAGE).unwrap();
    }
    std::fs::read(file).unwrap()
}

/// Reports what a passing test has not tested, directly to stderr, since the harness would capture it.
pub(crate) fn report_untested(why: &str) {
    let mut errors = std::io::stderr();
    writeln!(errors, "NOT TESTED: {why}").unwrap();
}

pub(crate) struct Server {
    pub(crate) pages: Arc<PageServer>,
    folder: TempDir,
    exits: Receiver<ClientExit>,
    stop: Option<oneshot::Sender<()>>,
    run: Option<JoinHandle<Counters>>,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start(memory: &Path, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pages = Arc::new(PageServer::open(memory, options).unwrap());
        let (stop, stopped) = oneshot::channel();
        let (sender, exits) = mpsc::channel();
        let listener = runtime.block_on(async { UnixListener::bind(folder.path().join("s")) }).unwrap();
        let served = Arc::clone(&pages);
        let run = runtime.spawn(async move {
            let stopped = async { drop(stopped.await) };
            served.run(listener, stopped, move |exit| drop(sender.send(exit))).await
        });
        Self { pages, folder, exits, stop: Some(stop), run: Some(run), runtime }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The next client that has ended.
    pub(crate) fn next_exit(&self) -> ClientExit {
        self.exits.recv_timeout(TIMEOUT).expect("a client has ended")
    }

    /// Stops the server.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Aborts the server's task.
    pub(crate) fn abort(&mut self) {
        self.run.take().unwrap().abort();
    }

    /// Waits until the server has ended.
    pub(crate) fn wait(&mut self) -> Counters {
        let run = self.run.take().unwrap();
        self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, run).await }).expect("it ends").unwrap()
    }

    /// Waits until the counters satisfy a condition.
    pub(crate) fn until(&self, condition: impl Fn(&Counters) -> bool) -> Counters {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let counters = self.pages.counters();
            if condition(&counters) {
                return counters;
            }
            assert!(Instant::now() < deadline, "still {counters:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn working_set(&self) -> Pages {
        self.pages.working_set()
    }
}
