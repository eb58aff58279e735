//! Network namespaces, each kept alive by a descriptor. Closing the last one deletes the namespace and its links.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::BridgedError;

/// The current thread's network namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// Creates a namespace that holds only a loopback interface, which is down.
    pub(crate) fn new() -> Result<Self, BridgedError> {
        // A separate thread, so that the current thread keeps its namespace.
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| namespace_error(errno.into()))?;
            Self::current()
        })
    }

    /// The current thread's namespace.
    pub(crate) fn current() -> Result<Self, BridgedError> {
        let file = File::open(CURRENT).map_err(BridgedError::io("open", CURRENT))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Runs `body` in this namespace, on a separate thread.
    pub(crate) fn run<T: Send>(
        &self,
        body: impl FnOnce() -> Result<T, BridgedError> + Send,
    ) -> Result<T, BridgedError> {
        on_own_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| namespace_error(errno.into()))?;
            body()
        })
    }

    /// The descriptor that keeps the namespace alive.
    #[must_use]
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.0
    }
}

/// Runs `body` on a separate thread, which starts in the current thread's namespace.
pub(crate) fn on_own_thread<T: Send>(
    body: impl FnOnce() -> Result<T, BridgedError> + Send,
) -> Result<T, BridgedError> {
    let crashed = || namespace_error(io::Error::other("the thread panicked"));
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|_| Err(crashed())))
}

fn namespace_error(source: io::Error) -> BridgedError {
    BridgedError::Link { step: "work in a network namespace".to_owned(), source }
}
