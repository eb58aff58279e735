//! `SETLK`, `SETLKW` and `INTERRUPT`: `flock` locks. Record locks (`fcntl`) stay in the guest, which sends none.

use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::handles::Handle;
use crate::reply::{FuseReply, Outcome, error_reply};
use crate::server::Server;
use crate::wire::Request;

/// The lock is one of `flock`.
const FLOCK: u32 = 1 << 0;
const SHARED: u32 = 0;
const EXCLUSIVE: u32 = 1;
const UNLOCK: u32 = 2;

impl Server {
    /// Changes a lock, or refuses it at once if another process holds it.
    pub(crate) fn lock(&self, request: Request<'_>) -> Outcome {
        match self.try_lock(request) {
            Err(Errno::WOULDBLOCK) => {
                // For the guest, the holder may have closed the file before this request.
                self.releases.wait_for_pending(request.node);
                self.try_lock(request)
            }
            outcome => outcome,
        }
    }

    fn try_lock(&self, request: Request<'_>) -> Outcome {
        let (handle, operation) = self.parse_lock(request)?;
        flock(handle.file()?, operation)?;
        if matches!(operation, FlockOperation::Unlock | FlockOperation::NonBlockingLockShared) {
            self.locks.retry();
        }
        Ok(FuseReply::new())
    }

    /// As [`Server::lock`], but stores the request while another process holds the lock: then there is no reply yet.
    pub(crate) fn lock_or_wait(&self, request: Request<'_>) -> Option<Vec<u8>> {
        let unique = request.unique;
        let refused = match self.try_lock(request) {
            Ok(reply) => return Some(reply.into_message(unique)),
            Err(Errno::WOULDBLOCK) => self.wait_for_lock(request).err()?,
            Err(error) => error,
        };
        Some(error_reply(refused, unique))
    }

    fn wait_for_lock(&self, request: Request<'_>) -> Result<(), Errno> {
        let (handle, operation) = self.parse_lock(request)?;
        self.locks.wait(request.unique, handle.clone(), operation)?;
        // Another worker may have closed the handle just before.
        if self.parse_lock(request).is_err() {
            self.locks.end(&handle);
        }
        Ok(())
    }

    /// Ends the wait for a lock; the reply is that of the request that waited. Other requests are done soon, or cannot
    /// be interrupted.
    pub(crate) fn interrupt(&self, mut request: Request<'_>) -> Option<Vec<u8>> {
        let unique = request.body.u64().ok()?;
        self.locks.interrupt(unique).then(|| error_reply(Errno::INTR, unique))
    }

    /// Waits for the next reply to a request that waited for its lock. `None` when the volume ends.
    pub(crate) fn next_lock_reply(&self) -> Option<Vec<u8>> {
        let (unique, result) = self.locks.next_granted()?;
        Some(match result {
            Ok(()) => FuseReply::new().into_message(unique),
            Err(error) => error_reply(error, unique),
        })
    }

    fn parse_lock(&self, mut request: Request<'_>) -> Result<(Arc<Handle>, FlockOperation), Errno> {
        let (handle, _owner) = (request.body.u64()?, request.body.u64()?);
        let _range = (request.body.u64()?, request.body.u64()?);
        let (kind, _pid, flags) = (request.body.u32()?, request.body.u32()?, request.body.u32()?);
        if flags & FLOCK == 0 {
            return Err(Errno::NOSYS);
        }
        let operation = match kind {
            SHARED => FlockOperation::NonBlockingLockShared,
            EXCLUSIVE => FlockOperation::NonBlockingLockExclusive,
            UNLOCK => FlockOperation::Unlock,
            _ => return Err(Errno::INVAL),
        };
        Ok((self.handles.get(handle)?, operation))
    }
}
