//! Capturing the changed pages of guest memory in a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FallocateFlags;
use tempfile::TempPath;

use crate::error::FileError;
use crate::fence::{self, Mapping};
use crate::memory::{Held, Memory};
use crate::region::{Piece, Region};
use crate::{PagerError, Pages, digest};

/// Pieces per system call: the kernel's limit (`UIO_MAXIOV`).
const PIECES_AT_ONCE: usize = 1024;
/// Bytes per piece, so that the work divides evenly.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes per system call, about.
const BATCH_BYTES: u64 = 4 << 20;
/// Threads that copy; the vCPU threads are paused meanwhile. For 100 MiB one thread took 16 to 28 ms, two
/// took 9 to 18.
const COPIERS: usize = 2;
/// Below this many bytes, starting a thread costs more than it saves.
const LEAST_FOR_THREADS: u64 = 8 << 20;

/// A capture of guest memory in progress: [`Capture::prepare`] while the guest runs, [`Capture::take`] while
/// it is paused, [`Capture::finish`] after it has resumed. If it fails or is dropped earlier, no file is
/// left.
#[derive(Debug)]
pub struct Capture {
    memory: Memory,
    mapping: Mapping,
    file: File,
    /// Removes the file on drop, until `finish` keeps it.
    path: TempPath,
    /// The pages for which blocks are allocated and page tables are populated.
    room: Pages,
    /// All pages that were written to the file.
    written: Pages,
    taken: Pages,
}

impl Capture {
    /// Creates `path`, a sparse file as long as guest memory, and preallocates the pages that are changed
    /// now, so that [`Capture::take`] has little more to do than copy memory.
    ///
    /// The caller must be root, or run as the same user with the process as its descendant.
    ///
    /// # Errors
    /// When a region is invalid or not mapped in this way, the process has exited or the caller may not
    /// inspect it, or the file exists, cannot be created or runs out of space.
    pub fn prepare(pid: u32, regions: Vec<Region>, held: Held, path: &Path) -> Result<Self, PagerError> {
        Self::prepare_with(pid, regions, held, Pages::default(), path)
    }

    /// As [`Capture::prepare`], with pages `besides` that count as changed even if the process has not
    /// written them: pages in which the file that it maps differs from the parent of this capture.
    ///
    /// # Errors
    /// As [`Capture::prepare`].
    pub fn prepare_with(
        pid: u32,
        regions: Vec<Region>,
        held: Held,
        besides: Pages,
        path: &Path,
    ) -> Result<Self, PagerError> {
        let memory = Memory::open(pid, regions, held)?.with(besides);
        let room = memory.changed()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(FileError::writing(path))?;
        let path = TempPath::try_from_path(path).map_err(FileError::writing(path))?;
        let mapping = make_room(&file, memory.regions().end(), &room).map_err(FileError::writing(&path))?;
        Ok(Self { memory, mapping, file, path, room, written: Pages::default(), taken: Pages::default() })
    }

    /// Copies the pages that are changed now, and returns them. The guest must be paused.
    ///
    /// # Errors
    /// When the process has exited, its memory cannot be read, or there is no space for pages changed since
    /// [`Capture::prepare`].
    pub fn take(&mut self) -> Result<Pages, PagerError> {
        let pages = self.memory.changed()?;
        self.written = self.written.union(&pages);
        self.copy_to_room(&pages.common(&self.room))?;
        self.write_beyond(&pages.minus(&self.room))?;
        self.memory.still_there()?;
        self.taken.clone_from(&pages);
        Ok(pages)
    }

    /// Keeps the file, which is empty if [`Capture::take`] has not succeeded. With `digest`, returns the
    /// [`digest()`](crate::digest()) of the file and of the pages that the last [`Capture::take`] returned.
    /// With `sync`, syncs the file; syncing the directory entry is up to the caller.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub fn finish(self, digest: bool, sync: bool) -> Result<Option<String>, PagerError> {
        let Self { mapping, file, path, room, written, taken, .. } = self;
        drop(mapping);
        release(&file, &room.union(&written).minus(&taken)).map_err(FileError::writing(&path))?;
        let digest =
            digest.then(|| digest::of(&file, &taken)).transpose().map_err(FileError::reading(&path))?;
        if sync {
            file.sync_all().map_err(FileError::writing(&path))?;
        }
        let shown = path.to_path_buf();
        path.keep().map_err(|error| FileError::writing(&shown)(error.error))?;
        Ok(digest)
    }

    fn copy_to_room(&self, pages: &Pages) -> Result<(), PagerError> {
        let pieces = self.memory.regions().pieces(pages, PIECE_BYTES);
        let batches = batches(&pieces);
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.copy_batch(batch)?;
            }
            Ok(())
        };
        if pages.bytes() < LEAST_FOR_THREADS {
            return work();
        }
        std::thread::scope(|scope| {
            // If no thread can be started, this one copies everything.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..COPIERS).filter_map(start).collect();
            let own = work();
            others.into_iter().fold(own, |result, other| {
                let broken = || Err(self.unreadable(0, io::Error::other("a copy thread panicked")));
                result.and(other.join().unwrap_or_else(|_| broken()))
            })
        })
    }

    /// The kernel may copy fewer bytes than requested; then the copy continues from there.
    fn copy_batch(&self, batch: &[Piece]) -> Result<(), PagerError> {
        let mut left = batch.to_vec();
        while let Some(first) = left.first() {
            let address = first.address;
            let copied = fence::copy(self.memory.pid(), &left, &self.mapping);
            let copied = copied.map_err(|source| self.unreadable(address, source))?;
            if copied == 0 {
                return Err(self.unreadable(address, io::ErrorKind::UnexpectedEof.into()));
            }
            advance(&mut left, copied as u64);
        }
        Ok(())
    }

    /// With a write, which can report ENOSPC.
    fn write_beyond(&self, pages: &Pages) -> Result<(), PagerError> {
        let mut buffer = vec![0; PIECE_BYTES as usize];
        for piece in self.memory.regions().pieces(pages, PIECE_BYTES) {
            let bytes = &mut buffer[..piece.length as usize];
            let read = fence::read(self.memory.pid(), piece.address, bytes);
            let read = read.map_err(|source| self.unreadable(piece.address, source))?;
            if read < bytes.len() {
                let at = piece.address + read as u64;
                return Err(self.unreadable(at, io::ErrorKind::UnexpectedEof.into()));
            }
            self.file.write_all_at(bytes, piece.offset).map_err(FileError::writing(&self.path))?;
        }
        Ok(())
    }

    fn unreadable(&self, address: u64, source: io::Error) -> PagerError {
        let pid = self.memory.pid();
        match source.raw_os_error() {
            Some(libc::ESRCH) => PagerError::Gone { pid },
            _ => PagerError::Read { pid, address, source },
        }
    }
}

/// Writes zeros first, which allocates the blocks, then maps them. This is three times as fast as `fallocate`
/// followed by page faults that look up the file's pages one by one.
fn make_room(file: &File, length: u64, room: &Pages) -> io::Result<Mapping> {
    file.set_len(length)?;
    let zeros = vec![0; PIECE_BYTES as usize];
    for run in room.extents() {
        for offset in run.clone().step_by(zeros.len()) {
            file.write_all_at(&zeros[..PIECE_BYTES.min(run.end - offset) as usize], offset)?;
        }
    }
    let mapping = Mapping::shared(file, length)?;
    for run in room.extents() {
        match mapping.populate(run) {
            // Linux before 5.14 lacks `MADV_POPULATE_WRITE`: only the copy takes longer.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            result => result?,
        }
    }
    Ok(mapping)
}

/// Frees the blocks of pages that were preallocated but not captured.
fn release(file: &File, pages: &Pages) -> io::Result<()> {
    for run in pages.extents() {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, punch, run.start, run.end - run.start)?;
    }
    Ok(())
}

/// Groups pieces into system calls.
fn batches(pieces: &[Piece]) -> Vec<&[Piece]> {
    let mut batches = Vec::new();
    let mut rest = pieces;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |piece: &&Piece| {
            bytes += piece.length;
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take(PIECES_AT_ONCE).take_while(fits).count();
        let (batch, after) = rest.split_at(count);
        batches.push(batch);
        rest = after;
    }
    batches
}

/// Removes the bytes that are already copied.
fn advance(pieces: &mut Vec<Piece>, mut done: u64) {
    let whole = pieces.iter().take_while(|piece| {
        let passed = piece.length <= done;
        done -= if passed { piece.length } else { 0 };
        passed
    });
    let whole = whole.count();
    pieces.drain(..whole);
    if let Some(first) = pieces.first_mut() {
        first.address += done;
        first.offset += done;
        first.length -= done;
    }
}
