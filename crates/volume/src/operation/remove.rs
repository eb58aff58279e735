//! Taking names away.

use rustix::fs::{AtFlags, unlinkat};

use crate::answer::{Answer, Outcome};
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
        let parent = self.changeable(request.node)?;
        let known = self.inodes.known_at(&parent, name)?;
        unlinkat(&*parent, name, flags)?;
        if let Some(known) = known {
            self.inodes.lost_name(known);
        }
        Ok(Answer::new())
    }
}
