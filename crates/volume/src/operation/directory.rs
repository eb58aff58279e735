//! `OPENDIR`, `READDIR` and `READDIRPLUS`.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, Stat, seek};
use rustix::io::Errno;

use crate::handles::Handle;
use crate::inodes::ROOT;
use crate::limits::MAX_TRANSFER;
use crate::reply::{FuseReply, Outcome};
use crate::server::Server;
use crate::wire::Request;

/// Bytes of entries that are read from the host at once.
const BATCH: usize = 32 * 1024;
/// Bytes of an entry before its name.
const ENTRY_HEADER: usize = 24;
/// Bytes of the inode and attributes that precede an entry of `READDIRPLUS`.
const INODE_SIZE: usize = 128;
/// The inode number of an entry whose inode is not reported.
const UNKNOWN_INODE: u64 = u32::MAX as u64;

/// One entry.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    inode: u64,
    /// The offset of the next entry.
    next: u64,
    kind: FileType,
    name: &'a CStr,
}

impl Entry<'_> {
    fn is_dot_or_dotdot(&self) -> bool {
        matches!(self.name.to_bytes(), b"." | b"..")
    }

    fn size(&self) -> usize {
        (ENTRY_HEADER + self.name.count_bytes()).next_multiple_of(8)
    }

    fn add_to(&self, reply: FuseReply) -> FuseReply {
        let name = self.name.to_bytes();
        // A directory entry's type is the file type's bits of a mode.
        let kind = self.kind.as_raw_mode() >> 12;
        reply.u64s([self.inode, self.next]).u32s([name.len() as u32, kind]).bytes(name).padded()
    }
}

/// A directory listing under construction.
struct Listing<'a> {
    server: &'a Server,
    directory: u64,
    reply: Option<FuseReply>,
    capacity: usize,
    plus: bool,
}

impl Listing<'_> {
    /// Adds the entry; `false` if it does not fit.
    fn add(&mut self, entry: Entry<'_>) -> bool {
        let size = entry.size() + if self.plus { INODE_SIZE } else { 0 };
        match self.reply.take() {
            Some(reply) if reply.len() + size <= self.capacity => {
                self.reply = Some(entry.add_to(self.add_inode(reply, &entry)));
                true
            }
            reply => {
                self.reply = reply;
                false
            }
        }
    }

    fn add_inode(&self, reply: FuseReply, entry: &Entry<'_>) -> FuseReply {
        if !self.plus {
            return reply;
        }
        if entry.is_dot_or_dotdot() {
            return reply.bytes(&[0; INODE_SIZE]);
        }
        match self.server.look_up_visible(self.directory, entry.name) {
            Ok((node, stat)) => reply.entry(node, &stat),
            // It was removed, or the limit of inodes is reached: the guest looks it up itself if it needs it.
            Err(_) => reply.bytes(&[0; INODE_SIZE]),
        }
    }
}

impl Server {
    pub(crate) fn open_directory(&self, request: Request<'_>) -> Outcome {
        let handle = match (request.node, &self.share.single_file) {
            (ROOT, Some(_)) => Handle::SingleFile,
            _ => {
                let fd = self.inodes.fd(request.node)?;
                let directory = self.share.reopen(&fd, FileType::Directory, OFlags::RDONLY)?;
                Handle::Directory(Mutex::new(directory))
            }
        };
        Ok(FuseReply::new().u64s([self.handles.insert(handle)?]).u32s([0, 0]))
    }

    pub(crate) fn read_directory(&self, request: Request<'_>) -> Outcome {
        self.read_entries(request, false)
    }

    pub(crate) fn read_directory_plus(&self, request: Request<'_>) -> Outcome {
        self.read_entries(request, true)
    }

    fn read_entries(&self, mut request: Request<'_>, plus: bool) -> Outcome {
        let handle = self.handles.get(request.body.u64()?)?;
        let offset = request.body.u64()?;
        let capacity = (request.body.u32()? as usize).min(MAX_TRANSFER);
        let mut listing =
            Listing { server: self, directory: request.node, reply: Some(FuseReply::new()), capacity, plus };
        match &*handle {
            Handle::File(_) => return Err(Errno::NOTDIR),
            Handle::SingleFile => self.list_single_file(&mut listing, offset)?,
            Handle::Directory(directory) => {
                let directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
                read_host_entries(&directory, &mut listing, offset)?;
            }
        }
        listing.reply.ok_or(Errno::IO)
    }

    /// Lists a directory with only the shared file in it, if that exists.
    fn list_single_file(&self, listing: &mut Listing<'_>, offset: u64) -> Result<(), Errno> {
        let directory = |name, next| Entry { inode: UNKNOWN_INODE, next, kind: FileType::Directory, name };
        let mut entries = vec![directory(c".", 1), directory(c"..", 2)];
        if let Some(name) = &self.share.single_file
            && let Some(inode) = self.single_file_inode(name)
        {
            entries.push(Entry { inode, next: 3, kind: FileType::RegularFile, name });
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(entries.len());
        entries[from..].iter().all(|entry| listing.add(*entry));
        Ok(())
    }

    fn single_file_inode(&self, name: &CStr) -> Option<u64> {
        let (node, Stat { st_ino, .. }) = self.look_up_visible(ROOT, name).ok()?;
        self.inodes.forget(node, 1);
        Some(st_ino)
    }
}

fn read_host_entries(directory: &OwnedFd, listing: &mut Listing<'_>, offset: u64) -> Result<(), Errno> {
    seek(directory, SeekFrom::Start(offset))?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut entries = RawDir::new(directory, batch.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        // Entries added before the error must reach the guest: their lookups are counted.
        let entry = match entry {
            Err(error) if listing.reply.as_ref().is_none_or(|reply| reply.len() == 0) => {
                return Err(error);
            }
            Err(_) => break,
            Ok(entry) => entry,
        };
        let (inode, next, kind) = (entry.ino(), entry.next_entry_cookie(), entry.file_type());
        if !listing.add(Entry { inode, next, kind, name: entry.file_name() }) {
            break;
        }
    }
    Ok(())
}
