//! `LINK`: a further name for a file.

use rustix::fs::{AtFlags, fstat, linkat};

use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn link(&self, mut request: Request<'_>) -> Outcome {
        let file = self.inodes.fd(request.body.u64()?)?;
        let name = request.body.name()?;
        let parent = self.modifiable_directory(request.node)?;
        // This follows only the descriptor's link in /proc, to the inode and no further.
        self.share.with_proc_path(&file, |directory, number| {
            linkat(directory, number, &*parent, name, AtFlags::SYMLINK_FOLLOW)
        })?;
        let named = rustix::io::fcntl_dupfd_cloexec(&*file, 0)?;
        let stat = fstat(&named)?;
        let node = self.inodes.remember(request.node, name, named, &stat)?;
        Ok(FuseReply::new().entry(node, &stat))
    }
}
