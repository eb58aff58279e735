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
use crate::memory::{MappingKind, ProcessMemory};
use crate::region::{Piece, Region};
use crate::{PagerError, Pages, digest};

/// Pieces per system call: the kernel's limit (`UIO_MAXIOV`).
const MAX_PIECES_PER_CALL: usize = 1024;
/// Bytes per piece, so that the work divides evenly.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes per system call, about.
const BATCH_BYTES: u64 = 4 << 20;
/// Threads that copy; the vCPU threads are paused meanwhile. For 100 MiB one thread took 16 to 28 ms, two
/// took 9 to 18.
const COPY_THREADS: usize = 2;
/// Below this many bytes, starting a thread costs more than it saves.
const MIN_BYTES_FOR_THREADS: u64 = 8 << 20;

/// A capture of guest memory in progress: [`Capture::prepare`] while the guest runs, [`Capture::copy_changed`] while
/// it is paused, [`Capture::finish`] after it has resumed. If it fails or is dropped earlier, no file is
/// left.
#[derive(Debug)]
pub struct Capture {
    memory: ProcessMemory,
    mapping: Mapping,
    file: File,
    /// Removes the file on drop, until `finish` keeps it.
    path: TempPath,
    /// The pages for which blocks are allocated and page tables are populated.
    preallocated: Pages,
    /// All pages that were written to the file.
    written: Pages,
    captured: Pages,
}

impl Capture {
    /// Creates `path`, a sparse file as long as guest memory, and preallocates the pages that are changed
    /// now, so that [`Capture::copy_changed`] has little more to do than copy memory.
    ///
    /// The caller must be root, or run as the same user with the process as its descendant.
    ///
    /// # Errors
    /// When a region is invalid or not mapped in this way, the process has exited or the caller may not
    /// inspect it, or the file exists, cannot be created or runs out of space.
    pub fn prepare(
        pid: u32,
        regions: Vec<Region>,
        mapping_kind: MappingKind,
        path: &Path,
    ) -> Result<Self, PagerError> {
        Self::prepare_with(pid, regions, mapping_kind, Pages::default(), path)
    }

    /// As [`Capture::prepare`], with pages `divergent_pages` that count as changed even if the process has not
    /// written them: pages in which the file that it maps differs from the parent of this capture.
    ///
    /// # Errors
    /// As [`Capture::prepare`].
    pub fn prepare_with(
        pid: u32,
        regions: Vec<Region>,
        mapping_kind: MappingKind,
        divergent_pages: Pages,
        path: &Path,
    ) -> Result<Self, PagerError> {
        let memory = ProcessMemory::open(pid, regions, mapping_kind)?.with_divergent_pages(divergent_pages);
        let preallocated = memory.changed_pages()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(FileError::writing(path))?;
        let path = TempPath::try_from_path(path).map_err(FileError::writing(path))?;
        let mapping =
            preallocate(&file, memory.regions().end(), &preallocated).map_err(FileError::writing(&path))?;
        Ok(Self {
            memory,
            mapping,
            file,
            path,
            preallocated,
            written: Pages::default(),
            captured: Pages::default(),
        })
    }

    /// Copies the pages that are changed now, and returns them. The guest must be paused.
    ///
    /// # Errors
    /// When the process has exited, its memory cannot be read, or there is no space for pages changed since
    /// [`Capture::prepare`].
    pub fn copy_changed(&mut self) -> Result<Pages, PagerError> {
        let pages = self.memory.changed_pages()?;
        self.written = self.written.union(&pages);
        self.copy_to_preallocated(&pages.intersection(&self.preallocated))?;
        self.write_others(&pages.difference(&self.preallocated))?;
        self.memory.check_alive()?;
        self.captured.clone_from(&pages);
        Ok(pages)
    }

    /// Keeps the file, which is empty if [`Capture::copy_changed`] has not succeeded. With `digest`, returns the
    /// [`digest()`](crate::digest()) of the file and of the pages that the last [`Capture::copy_changed`] returned.
    /// With `sync`, syncs the file; syncing the directory entry is up to the caller.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub fn finish(self, digest: bool, sync: bool) -> Result<Option<String>, PagerError> {
        let Self { mapping, file, path, preallocated, written, captured, .. } = self;
        drop(mapping);
        punch_holes(&file, &preallocated.union(&written).difference(&captured))
            .map_err(FileError::writing(&path))?;
        let digest = digest
            .then(|| digest::digest_pages(&file, &captured))
            .transpose()
            .map_err(FileError::reading(&path))?;
        if sync {
            file.sync_all().map_err(FileError::writing(&path))?;
        }
        let shown_path = path.to_path_buf();
        path.keep().map_err(|error| FileError::writing(&shown_path)(error.error))?;
        Ok(digest)
    }

    fn copy_to_preallocated(&self, pages: &Pages) -> Result<(), PagerError> {
        let pieces = self.memory.regions().pieces(pages, PIECE_BYTES);
        let batches = batches(&pieces);
        let next = AtomicUsize::new(0);
        let copy_batches = || {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.copy_batch(batch)?;
            }
            Ok(())
        };
        if pages.bytes() < MIN_BYTES_FOR_THREADS {
            return copy_batches();
        }
        std::thread::scope(|scope| {
            // If no thread can be started, this one copies everything.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, copy_batches).ok();
            let others: Vec<_> = (1..COPY_THREADS).filter_map(start).collect();
            let result = copy_batches();
            others.into_iter().fold(result, |result, other| {
                let panicked = || Err(self.read_error(0, io::Error::other("a copy thread panicked")));
                result.and(other.join().unwrap_or_else(|_| panicked()))
            })
        })
    }

    /// The kernel may copy fewer bytes than requested; then the copy continues from there.
    fn copy_batch(&self, batch: &[Piece]) -> Result<(), PagerError> {
        let mut rest = batch.to_vec();
        while let Some(first) = rest.first() {
            let address = first.address;
            let copied = fence::copy_from_process(self.memory.pid(), &rest, &self.mapping);
            let copied = copied.map_err(|source| self.read_error(address, source))?;
            if copied == 0 {
                return Err(self.read_error(address, io::ErrorKind::UnexpectedEof.into()));
            }
            advance(&mut rest, copied as u64);
        }
        Ok(())
    }

    /// Copies with `write`, which reports ENOSPC; a store into a mapped file would raise SIGBUS instead.
    fn write_others(&self, pages: &Pages) -> Result<(), PagerError> {
        let mut buffer = vec![0; PIECE_BYTES as usize];
        for piece in self.memory.regions().pieces(pages, PIECE_BYTES) {
            let bytes = &mut buffer[..piece.length as usize];
            let read = fence::read_from_process(self.memory.pid(), piece.address, bytes);
            let read = read.map_err(|source| self.read_error(piece.address, source))?;
            if read < bytes.len() {
                let at = piece.address + read as u64;
                return Err(self.read_error(at, io::ErrorKind::UnexpectedEof.into()));
            }
            self.file.write_all_at(bytes, piece.offset).map_err(FileError::writing(&self.path))?;
        }
        Ok(())
    }

    fn read_error(&self, address: u64, source: io::Error) -> PagerError {
        let pid = self.memory.pid();
        match source.raw_os_error() {
            Some(libc::ESRCH) => PagerError::Exited { pid },
            _ => PagerError::Read { pid, address, source },
        }
    }
}

/// Writes zeros first, which allocates the blocks, then maps them. This is three times as fast as `fallocate`,
/// after which populating the page tables looks up the file's pages one by one.
fn preallocate(file: &File, length: u64, pages: &Pages) -> io::Result<Mapping> {
    file.set_len(length)?;
    let zeros = vec![0; PIECE_BYTES as usize];
    for run in pages.extents() {
        for offset in run.clone().step_by(zeros.len()) {
            file.write_all_at(&zeros[..PIECE_BYTES.min(run.end - offset) as usize], offset)?;
        }
    }
    let mapping = Mapping::shared(file, length)?;
    for run in pages.extents() {
        match mapping.populate(run) {
            // Linux before 5.14 lacks `MADV_POPULATE_WRITE`: only the copy takes longer.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            result => result?,
        }
    }
    Ok(mapping)
}

/// Frees the blocks of pages that were preallocated but not captured.
fn punch_holes(file: &File, pages: &Pages) -> io::Result<()> {
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
        let count = rest.iter().take(MAX_PIECES_PER_CALL).take_while(fits).count();
        let (batch, after) = rest.split_at(count);
        batches.push(batch);
        rest = after;
    }
    batches
}

/// Removes the bytes that are already copied.
fn advance(pieces: &mut Vec<Piece>, mut done: u64) {
    let finished = pieces.iter().take_while(|piece| {
        let passed = piece.length <= done;
        done -= if passed { piece.length } else { 0 };
        passed
    });
    let finished = finished.count();
    pieces.drain(..finished);
    if let Some(first) = pieces.first_mut() {
        first.address += done;
        first.offset += done;
        first.length -= done;
    }
}
