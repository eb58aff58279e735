//! `CREATE`: creates a file and opens it.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::attributes::PERMISSIONS;
use super::open::host_flags;
use crate::handles::Handle;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

impl Server {
    pub(crate) fn create(&self, mut request: Request<'_>) -> Outcome {
        let (flags, mode) = (request.body.u32()?, request.body.u32()? & PERMISSIONS);
        let (_umask, _open_flags) = (request.body.u32()?, request.body.u32()?);
        let name = request.body.name()?;
        let parent = self.modifiable_directory(request.node)?;
        match create_new(&parent, name, host_flags(flags), mode) {
            Err(Errno::EXIST) if flags & OFlags::EXCL.bits() == 0 => {
                self.open_existing(&request, name, flags)
            }
            Err(error) => Err(error),
            Ok(file) => self.reply_with_open_file(&request, &parent, Some(name), file, mode),
        }
    }

    /// Replies with a new file, which may have no name.
    pub(super) fn reply_with_open_file(
        &self,
        request: &Request<'_>,
        parent: &OwnedFd,
        name: Option<&CStr>,
        file: OwnedFd,
        mode: u32,
    ) -> Outcome {
        let stat = self.set_owner_and_mode(request, parent, &file, Some(mode))?;
        let named = self.share.with_proc_path(&file, |directory, number| {
            openat(directory, number, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        })?;
        let handle = self.handles.insert(Handle::File(file))?;
        let node = match self.inodes.remember(request.node, name.unwrap_or_default(), named, &stat) {
            Ok(node) => node,
            Err(error) => {
                // The guest does not know the handle, so it could not close it.
                drop(self.handles.close(handle)?);
                return Err(error);
            }
        };
        self.inodes.record_open(node, &stat);
        if name.is_none() {
            self.inodes.mark_unnamed(node);
        }
        Ok(FuseReply::new().entry(node, &stat).u64s([handle]).u32s([0, 0]))
    }

    /// Opens a file that the host has created meanwhile, unless the guest requires a new one.
    fn open_existing(&self, request: &Request<'_>, name: &CStr, flags: u32) -> Outcome {
        let (node, stat) = self.look_up_visible(request.node, name)?;
        let opened = self.open_file(node, flags);
        let (handle, open_flags) = opened.inspect_err(|_| self.inodes.forget(node, 1))?;
        Ok(FuseReply::new().entry(node, &stat).u64s([handle]).u32s([open_flags, 0]))
    }
}

fn create_new(parent: &OwnedFd, name: &CStr, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(mode))
}
