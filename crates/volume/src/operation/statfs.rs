//! `STATFS`: size and free space of the filesystem.

use rustix::fs::fstatvfs;

use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    /// The directory may contain mounts of other filesystems, so the file matters.
    pub(crate) fn statfs(&self, request: Request<'_>) -> Outcome {
        let stat = fstatvfs(self.inodes.fd(request.node)?)?;
        Ok(FuseReply::new()
            .u64s([stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree])
            .u32s([stat.f_bsize as u32, stat.f_namemax as u32, stat.f_frsize as u32, 0])
            .u32s([0; 6]))
    }
}
