//! `UNLINK` and `RMDIR`.

use rustix::fs::{AtFlags, unlinkat};

use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn unlink(&self, request: Request<'_>) -> Outcome {
        self.remove(request, AtFlags::empty())
    }

    pub(crate) fn remove_directory(&self, request: Request<'_>) -> Outcome {
        self.remove(request, AtFlags::REMOVEDIR)
    }

    fn remove(&self, mut request: Request<'_>, flags: AtFlags) -> Outcome {
        let name = request.body.name()?;
        let parent = self.modifiable_directory(request.node)?;
        let known = self.inodes.hold_known_entry(&parent, name)?;
        unlinkat(&*parent, name, flags)?;
        if let Some(known) = known {
            self.inodes.mark_unlinked(known, request.node, name);
        }
        Ok(FuseReply::new())
    }
}
