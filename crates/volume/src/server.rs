//! Handles the requests of a guest's kernel, on any number of threads.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::handles::Handles;
use super::inodes::{Inodes, ROOT};
use super::limits::Limits;
use super::locks::Locks;
use super::releases::{ReleaseGuard, Releases};
use super::reply::{Outcome, error_reply};
use super::share::Share;
use super::wire::{Request, opcode};

/// The server of one share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) share: Share,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    pub(super) locks: Locks,
    pub(super) releases: Releases,
}

impl Server {
    pub(super) fn new(share: Share, limits: Limits) -> Result<Self, Errno> {
        let root = rustix::io::fcntl_dupfd_cloexec(&share.root, 0)?;
        let (inodes, handles) = (Inodes::new(root, limits), Handles::new(limits.open_files));
        Ok(Self { share, inodes, handles, locks: Locks::default(), releases: Releases::default() })
    }

    /// Records that a `RELEASE` was received. This must be called for each message in the order of their arrival,
    /// before the next one is received. The caller drops the result once the message is handled.
    pub(super) fn record_release(&self, message: &[u8]) -> Option<ReleaseGuard<'_>> {
        let request = Request::parse(message)?;
        (request.opcode == opcode::RELEASE).then(|| self.releases.begin(request.node))
    }

    /// Handles a message and returns the reply; some requests have none.
    pub(super) fn handle(&self, message: &[u8]) -> Option<Vec<u8>> {
        let request = Request::parse(message)?;
        let outcome = match request.opcode {
            opcode::FORGET => return self.forget(request),
            opcode::BATCH_FORGET => return self.forget_batch(request),
            opcode::INTERRUPT => return self.interrupt(request),
            opcode::SETLKW => return self.lock_or_wait(request),
            code if self.share.read_only && is_modifying(code) => Err(Errno::ROFS),
            _ => self.dispatch(request),
        };
        Some(match outcome {
            Ok(reply) => reply.into_message(request.unique),
            Err(error) => error_reply(error, request.unique),
        })
    }

    fn dispatch(&self, request: Request<'_>) -> Outcome {
        match request.opcode {
            opcode::INIT => Self::init(request),
            opcode::DESTROY => self.destroy(),
            opcode::LOOKUP => self.look_up(request),
            opcode::GETATTR => self.get_attributes(request),
            opcode::SETATTR => self.set_attributes(request),
            opcode::ACCESS => self.access(request),
            opcode::READLINK => self.read_link(request),
            opcode::SYMLINK => self.make_symlink(request),
            opcode::MKNOD => self.make_node(request),
            opcode::MKDIR => self.make_directory(request),
            opcode::CREATE => self.create(request),
            opcode::TMPFILE => self.create_unnamed(request),
            opcode::LINK => self.link(request),
            opcode::UNLINK => self.unlink(request),
            opcode::RMDIR => self.remove_directory(request),
            opcode::RENAME => self.rename(request),
            opcode::RENAME2 => self.rename_with_flags(request),
            _ => self.dispatch_open(request),
        }
    }

    fn dispatch_open(&self, request: Request<'_>) -> Outcome {
        match request.opcode {
            opcode::OPEN => self.open(request),
            opcode::OPENDIR => self.open_directory(request),
            opcode::RELEASE | opcode::RELEASEDIR => self.release(request),
            opcode::READ => self.read(request),
            opcode::LSEEK => self.seek(request),
            opcode::WRITE => self.write(request),
            opcode::FALLOCATE => self.allocate(request),
            opcode::COPY_FILE_RANGE => self.copy_range(request),
            opcode::FSYNC | opcode::FSYNCDIR => self.sync(request),
            opcode::READDIR => self.read_directory(request),
            opcode::READDIRPLUS => self.read_directory_plus(request),
            opcode::GETXATTR => self.get_xattr(request),
            opcode::LISTXATTR => self.list_xattr(request),
            opcode::SETXATTR => self.set_xattr(request),
            opcode::REMOVEXATTR => self.remove_xattr(request),
            opcode::SETLK => self.lock(request),
            opcode::STATFS => self.statfs(request),
            // This includes `FLUSH`: a write has reached the host's kernel
            // when the reply is sent, so a close need not wait, and after
            // ENOSYS the guest sends no more of them.
            _ => Err(Errno::NOSYS),
        }
    }

    /// The directory `node`, if the guest may create or remove entries in it.
    pub(super) fn modifiable_directory(&self, node: u64) -> Result<Arc<OwnedFd>, Errno> {
        if node == ROOT && self.share.single_file.is_some() {
            return Err(Errno::PERM);
        }
        self.inodes.fd(node)
    }

    /// Refuses names that are not shared.
    pub(super) fn check_visible(&self, parent: u64, name: &CStr) -> Result<(), Errno> {
        if parent == ROOT && !self.share.is_visible(name) {
            return Err(Errno::NOENT);
        }
        Ok(())
    }
}

/// Whether requests with this opcode change something, independent of their fields.
fn is_modifying(code: u32) -> bool {
    matches!(
        code,
        opcode::SETATTR
            | opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::CREATE
            | opcode::TMPFILE
            | opcode::LINK
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::WRITE
            | opcode::FALLOCATE
            | opcode::COPY_FILE_RANGE
            | opcode::SETXATTR
            | opcode::REMOVEXATTR
    )
}
