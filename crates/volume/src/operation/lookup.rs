//! `LOOKUP`: finds an entry of a directory.

use std::ffi::CStr;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::inodes::ROOT;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn look_up(&self, mut request: Request<'_>) -> Outcome {
        let name = request.body.name()?;
        let (node, stat) = self.look_up_visible(request.node, name)?;
        Ok(FuseReply::new().entry(node, &stat))
    }

    /// Finds an entry that the guest may see, and counts the lookup.
    pub(super) fn look_up_visible(&self, parent: u64, name: &CStr) -> Result<(u64, Stat), Errno> {
        self.check_visible(parent, name)?;
        let (node, stat) = self.inodes.look_up(parent, name)?;
        // Only a file was shared: an entry that replaced it must be a file, too.
        if parent == ROOT
            && self.share.single_file.is_some()
            && FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        {
            self.inodes.forget(node, 1);
            return Err(Errno::NOENT);
        }
        Ok((node, stat))
    }
}
