//! mimeo's own page server, serving Firecracker.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use mimeo_pager::page_server::{Counters, ExitReason, Options, PageServer};
use tokio::net::UnixListener;

/// A server that ends when its last clone exits.
pub(crate) struct Pager {
    pub(crate) socket: PathBuf,
    serving: JoinHandle<Counters>,
}

/// Serves the pages of `memory` on its own thread.
pub(crate) fn serve(memory: &Path, directory: &Path) -> Pager {
    let socket = directory.join("pages");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
    listener.set_nonblocking(true).expect("does not block");
    let server = PageServer::open(memory, Options::default()).expect("opened");
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener).expect("listens");
            let on_exit = |exit: mimeo_pager::page_server::ClientExit| {
                assert!(matches!(exit.reason, ExitReason::Exited), "{exit:?}");
            };
            server.run(listener, std::future::pending(), on_exit).await
        })
    });
    Pager { socket, serving }
}

impl Pager {
    /// Its counters, once its last clone has exited.
    pub(crate) fn counters(self) -> Counters {
        self.serving.join().expect("all clones were served")
    }
}
