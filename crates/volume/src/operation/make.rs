//! `MKDIR`, `MKNOD` and `SYMLINK`: new directories, files, pipes, sockets and symbolic links.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid, chownat, fstat, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;

use super::attributes::PERMISSIONS;
use crate::inodes::open_entry;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

const SET_GID: u32 = 0o2000;

impl Server {
    pub(crate) fn make_directory(&self, mut request: Request<'_>) -> Outcome {
        let (mode, _umask) = (request.body.u32()? & PERMISSIONS, request.body.u32()?);
        let name = request.body.name()?;
        let parent = self.modifiable_directory(request.node)?;
        mkdirat(&*parent, name, Mode::from_raw_mode(mode))?;
        self.reply_with_new_entry(&request, &parent, name, Some(mode))
    }

    /// Devices are refused, even for root: a guest that could create one in a
    /// directory of the host could access the host's disks through it.
    pub(crate) fn make_node(&self, mut request: Request<'_>) -> Outcome {
        let (mode, _device) = (request.body.u32()?, request.body.u32()?);
        let (_umask, _padding) = (request.body.u32()?, request.body.u32()?);
        let name = request.body.name()?;
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let parent = self.modifiable_directory(request.node)?;
        mknodat(&*parent, name, kind, Mode::from_raw_mode(mode & PERMISSIONS), 0)?;
        self.reply_with_new_entry(&request, &parent, name, Some(mode & PERMISSIONS))
    }

    pub(crate) fn make_symlink(&self, mut request: Request<'_>) -> Outcome {
        let (name, target) = (request.body.name()?, request.body.string()?);
        let parent = self.modifiable_directory(request.node)?;
        symlinkat(target, &*parent, name)?;
        self.reply_with_new_entry(&request, &parent, name, None)
    }

    /// Sets the owner and mode of a new entry, and replies with it.
    fn reply_with_new_entry(
        &self,
        request: &Request<'_>,
        parent: &OwnedFd,
        name: &CStr,
        mode: Option<u32>,
    ) -> Outcome {
        let (fd, _) = open_entry(parent, name)?;
        let stat = self.set_owner_and_mode(request, parent, &fd, mode)?;
        let node = self.inodes.remember(request.node, name, fd, &stat)?;
        Ok(FuseReply::new().entry(node, &stat))
    }

    /// Sets the owner and the mode of a new file, which the host created with this process's user and umask.
    pub(super) fn set_owner_and_mode(
        &self,
        request: &Request<'_>,
        parent: &OwnedFd,
        fd: &OwnedFd,
        mode: Option<u32>,
    ) -> Result<Stat, Errno> {
        if self.share.sets_owner {
            chown_to_requester(request, parent, fd)?;
        }
        if let Some(mode) = mode {
            self.set_new_mode(fd, mode)?;
        }
        fstat(fd)
    }

    fn set_new_mode(&self, fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let current = fstat(fd)?.st_mode;
        let inherited = match FileType::from_raw_mode(current) {
            FileType::Directory => current & SET_GID,
            _ => 0,
        };
        match mode | inherited {
            mode if mode == current & PERMISSIONS => Ok(()),
            mode => self.set_mode(fd, mode),
        }
    }
}

/// Changes the owner of a new file to the user of the request.
fn chown_to_requester(request: &Request<'_>, parent: &OwnedFd, fd: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(fd)?;
    // Entries of a set-group-id directory inherit its group.
    let inherits = fstat(parent)?.st_mode & SET_GID != 0;
    // An id of all ones means no change.
    let uid = Some(request.uid).filter(|uid| *uid != stat.st_uid && *uid != u32::MAX);
    let gid = Some(request.gid).filter(|gid| *gid != stat.st_gid && *gid != u32::MAX && !inherits);
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    chownat(fd, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
}
