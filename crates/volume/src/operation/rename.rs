//! `RENAME` and `RENAME2`.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

/// An inode that the guest knows, with a held descriptor.
type KnownEntry = Option<(u64, Arc<OwnedFd>)>;

impl Server {
    pub(crate) fn rename(&self, mut request: Request<'_>) -> Outcome {
        let directory = request.body.u64()?;
        self.rename_to(request, directory, RenameFlags::empty())
    }

    pub(crate) fn rename_with_flags(&self, mut request: Request<'_>) -> Outcome {
        let directory = request.body.u64()?;
        let (flags, _padding) = (request.body.u32()?, request.body.u32()?);
        let flags = RenameFlags::from_bits_retain(flags);
        // A whiteout would be a device.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        self.rename_to(request, directory, flags)
    }

    fn rename_to(&self, mut request: Request<'_>, directory: u64, flags: RenameFlags) -> Outcome {
        let (old_name, new_name) = (request.body.name()?, request.body.name()?);
        let (from, to) = (self.modifiable_directory(request.node)?, self.modifiable_directory(directory)?);
        let moved = self.inodes.hold_known_entry(&from, old_name)?;
        let replaced = match self.inodes.hold_known_entry(&to, new_name) {
            Err(Errno::NOENT) => None,
            other => other?,
        };
        renameat_with(&*from, old_name, &*to, new_name, flags)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            self.update_name(replaced, request.node, old_name);
        } else if let Some(known) = replaced {
            self.inodes.mark_unlinked(known, directory, new_name);
        }
        // Last, since both may be names of one file.
        self.update_name(moved, directory, new_name);
        Ok(FuseReply::new())
    }

    fn update_name(&self, known: KnownEntry, parent: u64, name: &CStr) {
        if let Some((node, _fd)) = known {
            self.inodes.set_location(node, parent, name);
        }
    }
}
