//! How much room there is.

use rustix::fs::fstatvfs;

use crate::answer::{Answer, Outcome};
use crate::server::Server;

impl Server {
    pub(crate) fn space(&self) -> Outcome {
        let space = fstatvfs(&self.share.root)?;
        Ok(Answer::new()
            .u64s([space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree])
            .u32s([space.f_bsize as u32, space.f_namemax as u32, space.f_frsize as u32, 0])
            .u32s([0; 6]))
    }
}
