//! Network namespaces, each held by a descriptor: the last that closes it ends it, and all links in it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::BridgedError;

/// What a thread's own namespace is called.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// A new one, with nothing in it but a loopback that is down.
    pub(crate) fn new() -> Result<Self, BridgedError> {
        // A thread of its own: this one stays where it is.
        apart(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
            Self::own()
        })
    }

    /// That of this thread.
    pub(crate) fn own() -> Result<Self, BridgedError> {
        let file = File::open(OWN).map_err(BridgedError::io("open", OWN))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Does something in it, on a thread of its own.
    pub(crate) fn inside<T: Send>(
        &self,
        body: impl FnOnce() -> Result<T, BridgedError> + Send,
    ) -> Result<T, BridgedError> {
        apart(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
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
pub(crate) fn apart<T: Send>(
    body: impl FnOnce() -> Result<T, BridgedError> + Send,
) -> Result<T, BridgedError> {
    let crashed = || failed(io::Error::other("its thread came to a bad end"));
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|_| Err(crashed())))
}

fn failed(source: io::Error) -> BridgedError {
    BridgedError::Link { step: "work in a network namespace".to_owned(), source }
}
