//! `WRITE`, `FALLOCATE`, `COPY_FILE_RANGE`, `FSYNC` and `FSYNCDIR`.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, OFlags, copy_file_range, fallocate, fdatasync, fsync};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::handles::Handle;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

/// The write must clear the set-user-id bits of the file.
const KILL_SUIDGID: u32 = 1 << 2;
/// Only the data must be synced, not the metadata.
const DATA_ONLY: u32 = 1 << 0;
/// Most bytes that one request may copy: it occupies a worker until it is done.
const MAX_COPY: u64 = 64 * 1024 * 1024;

impl Server {
    pub(crate) fn write(&self, mut request: Request<'_>) -> Outcome {
        let (handle, offset) = (request.body.u64()?, request.body.u64()?);
        let (size, write_flags) = (request.body.u32()?, request.body.u32()?);
        let (_lock_owner, flags, _padding) = (request.body.u64()?, request.body.u32()?, request.body.u32()?);
        let data = request.body.bytes(size as usize)?;
        // The offset -1 would mean the current position of the descriptor.
        i64::try_from(offset).map_err(|_| Errno::INVAL)?;
        let handle = self.handles.get(handle)?;
        let file = handle.file()?;
        let written = write_all(file, data, offset, OFlags::from_bits_retain(flags))?;
        if write_flags & KILL_SUIDGID != 0 {
            self.clear_suid_sgid(file)?;
        }
        Ok(FuseReply::new().u32s([written as u32, 0]))
    }

    pub(crate) fn allocate(&self, mut request: Request<'_>) -> Outcome {
        let handle = self.handles.get(request.body.u64()?)?;
        let (offset, length) = (request.body.u64()?, request.body.u64()?);
        let mode = FallocateFlags::from_bits_retain(request.body.u32()?);
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !known.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        fallocate(handle.file()?, mode, offset, length)?;
        Ok(FuseReply::new())
    }

    pub(crate) fn copy_range(&self, mut request: Request<'_>) -> Outcome {
        let (from, mut from_offset) = (self.handles.get(request.body.u64()?)?, request.body.u64()?);
        let _to_node = request.body.u64()?;
        let (to, mut to_offset) = (self.handles.get(request.body.u64()?)?, request.body.u64()?);
        let length = request.body.u64()?.min(MAX_COPY) as usize;
        let (from, to) = (from.file()?, to.file()?);
        let copied = copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length)?;
        Ok(FuseReply::new().u32s([copied as u32, 0]))
    }

    pub(crate) fn sync(&self, mut request: Request<'_>) -> Outcome {
        let handle = self.handles.get(request.body.u64()?)?;
        let data_only = request.body.u32()? & DATA_ONLY != 0;
        match &*handle {
            Handle::File(file) if data_only => fdatasync(file)?,
            Handle::File(file) => fsync(file)?,
            Handle::Directory(directory) => self.sync_directory(directory)?,
            Handle::SingleFile => {}
        }
        Ok(FuseReply::new())
    }

    fn sync_directory(&self, directory: &std::sync::Mutex<OwnedFd>) -> Result<(), Errno> {
        // Not under the lock: listing the directory must not wait for the disk.
        let duplicate = {
            let directory = directory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            rustix::io::fcntl_dupfd_cloexec(&*directory, 0)?
        };
        fsync(duplicate)
    }
}

/// Writes all data; returns a short count if an error occurs after a part of it.
fn write_all(file: &OwnedFd, data: &[u8], offset: u64, flags: OFlags) -> Result<usize, Errno> {
    let write_flags = rw_flags(flags);
    let mut written = 0;
    while written < data.len() {
        let rest = [IoSlice::new(&data[written..])];
        match pwritev2(file, &rest, offset.wrapping_add(written as u64), write_flags) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) if written == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(written)
}

/// Appends if the guest's descriptor has `O_APPEND` now, which may have changed since it was opened.
fn rw_flags(flags: OFlags) -> ReadWriteFlags {
    if flags.contains(OFlags::APPEND) { ReadWriteFlags::APPEND } else { ReadWriteFlags::empty() }
}
