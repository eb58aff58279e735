//! `TMPFILE`: creates a file without a name and opens it. The guest may link it later.

use rustix::fs::{Mode, OFlags, openat};

use super::attributes::PERMISSIONS;
use super::open::host_flags;
use crate::reply::Outcome;
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn create_unnamed(&self, mut request: Request<'_>) -> Outcome {
        let (flags, mode) = (request.body.u32()?, request.body.u32()? & PERMISSIONS);
        let parent = self.modifiable_directory(request.node)?;
        let flags = host_flags(flags) | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = openat(&*parent, c".", flags, Mode::from_raw_mode(mode))?;
        self.reply_with_open_file(&request, &parent, None, file, mode)
    }
}
