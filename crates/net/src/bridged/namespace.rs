//! Network namespaces, each held by a descriptor: the last that closes it ends it, and all links in it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::BridgedError;

/// What a thread's own namespace is called.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// A new one, with nothing in it but a loopback that is down.
    pub(crate) fn new() -> Result<Self, BridgedError> {
        // A thread of its own: this one stays where it is.
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| namespace_error(errno.into()))?;
            Self::current()
        })
    }

    /// That of this thread.
    pub(crate) fn current() -> Result<Self, BridgedError> {
        let file = File::open(CURRENT).map_err(BridgedError::io("open", CURRENT))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Does something in it, on a thread of its own.
    pub(crate) fn run<T: Send>(
        &self,
        body: impl FnOnce() -> Result<T, BridgedError> + Send,
    ) -> Result<T, BridgedError> {
        on_own_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| namespace_error(errno.into()))?;
            body()
        })
    }

    /// The descriptor that holds it.
    #[must_use]
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.0
    }
}

/// Does something on a thread of its own, which is in this one's namespace.
pub(crate) fn on_own_thread<T: Send>(
    body: impl FnOnce() -> Result<T, BridgedError> + Send,
) -> Result<T, BridgedError> {
    let crashed = || namespace_error(io::Error::other("its thread came to a bad end"));
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|_| Err(crashed())))
}

fn namespace_error(source: io::Error) -> BridgedError {
    BridgedError::Link { step: "work in a network namespace".to_owned(), source }
}
