//! `OPEN`, `RELEASE` and `RELEASEDIR`.

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::handles::Handle;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

/// The guest may keep the file's cached content.
const KEEP_CACHE: u32 = 1 << 1;

/// The flags with which the host opens a file that the guest opens with
/// `flags`. `O_APPEND` is not passed: each write has its own append flag.
pub(super) fn host_flags(flags: u32) -> OFlags {
    let passed = OFlags::RWMODE | OFlags::TRUNC | OFlags::DSYNC | OFlags::SYNC;
    OFlags::from_bits_retain(flags) & passed
}

impl Server {
    pub(crate) fn open(&self, mut request: Request<'_>) -> Outcome {
        let (handle, open_flags) = self.open_file(request.node, request.body.u32()?)?;
        Ok(FuseReply::new().u64s([handle]).u32s([open_flags, 0]))
    }

    /// Opens a regular file; returns its handle and the open flags for the guest.
    pub(super) fn open_file(&self, node: u64, flags: u32) -> Result<(u64, u32), Errno> {
        let flags = host_flags(flags);
        let writes = flags.intersects(OFlags::RWMODE | OFlags::TRUNC);
        if self.share.read_only && writes {
            return Err(Errno::ROFS);
        }
        let fd = self.inodes.fd(node)?;
        let file = self.share.reopen(&fd, FileType::RegularFile, flags)?;
        let stat = fstat(&file)?;
        if flags.contains(OFlags::TRUNC) {
            self.clear_suid_sgid(&fd)?;
        }
        let is_unchanged = self.inodes.record_open(node, &stat);
        Ok((self.handles.insert(Handle::File(file))?, if is_unchanged { KEEP_CACHE } else { 0 }))
    }

    pub(crate) fn release(&self, mut request: Request<'_>) -> Outcome {
        let handle = self.handles.close(request.body.u64()?)?;
        self.locks.end(&handle);
        drop(handle);
        self.locks.retry();
        Ok(FuseReply::new())
    }
}
