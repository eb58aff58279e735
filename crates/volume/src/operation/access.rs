//! `ACCESS` and `READLINK`: permission checks, and targets of symbolic links.

use rustix::fs::{Access, AtFlags, accessat, readlinkat};

use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn access(&self, mut request: Request<'_>) -> Outcome {
        let mask = Access::from_bits_truncate(request.body.u32()?);
        let fd = self.inodes.fd(request.node)?;
        self.share
            .with_proc_path(&fd, |directory, name| accessat(directory, name, mask, AtFlags::EACCESS))?;
        Ok(FuseReply::new())
    }

    /// The guest follows the link, within its own filesystems.
    pub(crate) fn read_link(&self, request: Request<'_>) -> Outcome {
        let target = readlinkat(self.inodes.fd(request.node)?, c"", Vec::new())?;
        Ok(FuseReply::new().bytes(target.to_bytes()))
    }
}
