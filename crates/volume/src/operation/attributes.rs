//! `GETATTR` and `SETATTR`: mode, owner, size, times.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmodat,
    chownat, fstat, ftruncate, utimensat,
};
use rustix::io::Errno;

use crate::inodes::ROOT;
use crate::limits::CACHE_TIMEOUT;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::{Fields, Request};

const MODE: u32 = 1 << 0;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const HANDLE: u32 = 1 << 6;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const KILL_SUIDGID: u32 = 1 << 11;
/// The bits of a mode other than the file type.
pub(super) const PERMISSIONS: u32 = 0o7777;

/// The attributes to change.
#[derive(Debug, Clone, Copy)]
struct Change {
    valid: u32,
    handle: u64,
    size: u64,
    times: [u64; 2],
    nanos: [u32; 2],
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Change {
    fn parse(fields: &mut Fields<'_>) -> Result<Self, Errno> {
        let (valid, _padding) = (fields.u32()?, fields.u32()?);
        let (handle, size, _lock_owner) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (times, _ctime) = ([fields.u64()?, fields.u64()?], fields.u64()?);
        let (nanos, _ctime) = ([fields.u32()?, fields.u32()?], fields.u32()?);
        let (mode, _unused) = (fields.u32()?, fields.u32()?);
        let (uid, gid) = (fields.u32()?, fields.u32()?);
        Ok(Self { valid, handle, size, times, nanos, mode, uid, gid })
    }

    fn has(&self, bits: u32) -> bool {
        self.valid & bits != 0
    }

    fn timestamps(&self) -> Timestamps {
        Timestamps {
            last_access: self.time(ATIME, ATIME_NOW, 0),
            last_modification: self.time(MTIME, MTIME_NOW, 1),
        }
    }

    fn time(&self, given: u32, now: u32, which: usize) -> Timespec {
        let nanos = match () {
            () if self.has(now) => UTIME_NOW,
            () if self.has(given) => self.nanos[which].into(),
            () => UTIME_OMIT,
        };
        Timespec { tv_sec: self.times[which] as i64, tv_nsec: nanos }
    }
}

impl Server {
    pub(crate) fn get_attributes(&self, request: Request<'_>) -> Outcome {
        let stat = fstat(self.inodes.fd(request.node)?)?;
        Ok(self.attribute_reply(&stat))
    }

    pub(crate) fn set_attributes(&self, mut request: Request<'_>) -> Outcome {
        let change = Change::parse(&mut request.body)?;
        if request.node == ROOT && self.share.single_file.is_some() {
            return Err(Errno::PERM);
        }
        let fd = self.inodes.fd(request.node)?;
        // The owner first: a chown clears the set-user-id bits.
        if change.has(UID | GID) {
            self.set_owner(&fd, &change)?;
        }
        if change.has(MODE) {
            self.set_mode(&fd, change.mode)?;
        }
        if change.has(SIZE) {
            self.set_size(&fd, &change)?;
        }
        if change.has(ATIME | MTIME | ATIME_NOW | MTIME_NOW) {
            self.share.with_proc_path(&fd, |directory, name| {
                utimensat(directory, name, &change.timestamps(), AtFlags::empty())
            })?;
        }
        Ok(self.attribute_reply(&fstat(&fd)?))
    }

    fn set_owner(&self, fd: &OwnedFd, change: &Change) -> Result<(), Errno> {
        // An id of all ones means no change.
        let given = |bit, id: u32| (change.has(bit) && id != u32::MAX).then_some(id);
        let (uid, gid) = (given(UID, change.uid), given(GID, change.gid));
        chownat(fd, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
    }

    pub(super) fn set_mode(&self, fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        self.share.with_proc_path(fd, |directory, name| chmodat(directory, name, mode, AtFlags::empty()))
    }

    fn set_size(&self, fd: &OwnedFd, change: &Change) -> Result<(), Errno> {
        if change.has(HANDLE) {
            ftruncate(self.handles.get(change.handle)?.file()?, change.size)?;
        } else {
            ftruncate(self.share.reopen(fd, FileType::RegularFile, OFlags::WRONLY)?, change.size)?;
        }
        if change.has(KILL_SUIDGID) {
            self.clear_suid_sgid(fd)?;
        }
        Ok(())
    }

    /// Clears the bits that run a file with the rights of its owner or group. The
    /// host's kernel clears them when an ordinary user writes, but not for root.
    pub(super) fn clear_suid_sgid(&self, fd: &OwnedFd) -> Result<(), Errno> {
        let mode = fstat(fd)?.st_mode;
        match without_suid_sgid(mode) {
            less if less == mode => Ok(()),
            less => self.set_mode(fd, less),
        }
    }

    fn attribute_reply(&self, stat: &Stat) -> FuseReply {
        FuseReply::new()
            .u64s([CACHE_TIMEOUT.as_secs()])
            .u32s([CACHE_TIMEOUT.subsec_nanos(), 0])
            .attributes(stat)
    }
}

/// The mode without set-user-id, and without set-group-id unless that marks mandatory locking.
fn without_suid_sgid(mode: u32) -> u32 {
    let (set_uid, set_gid, group_executes) = (0o4000, 0o2000, 0o010);
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile if mode & group_executes != 0 => mode & !(set_uid | set_gid),
        FileType::RegularFile => mode & !set_uid,
        _ => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suid_and_sgid_are_cleared_on_files_only() {
        assert_eq!(without_suid_sgid(0o106_755), 0o100_755);
        assert_eq!(without_suid_sgid(0o106_644), 0o102_644);
        assert_eq!(without_suid_sgid(0o042_755), 0o042_755);
    }
}
