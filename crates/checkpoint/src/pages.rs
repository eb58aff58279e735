//! Writes a process's memory to a file.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::PAGE;
use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence::Tid;
use crate::flags::MappingFlags;
use crate::image::{From, KeptArea, Layout, PAGES};
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::{Area, Of};
use crate::take::Wanted;
use crate::tracee::Memory;

/// Bytes that are looked at together.
pub(crate) const PIECE: usize = 1 << 20;
/// A piece of memory that grows finds zeros behind it, not what was behind another.
const GAP: u64 = 64 << 20;

/// Writes memory to [`PAGES`] and lists where each part of it comes from.
pub(crate) struct Writer<'a> {
    pid: Tid,
    memory: &'a Memory,
    apart: Option<&'a Path>,
    pages: File,
    path: PathBuf,
    pagemap: File,
    files: Vec<MappedFile>,
    /// The index in `files` of what maps shows as this path and inode.
    looked_at: HashMap<(PathBuf, (String, u64)), usize>,
    kept: Vec<KeptArea>,
    /// Of what is written.
    end: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(pid: Tid, memory: &'a Memory, wanted: Wanted<'a>) -> Result<Self, CheckpointError> {
        let path = wanted.dir.join(PAGES);
        let pages = File::create_new(&path).map_err(file(&path))?;
        Ok(Self {
            pid,
            memory,
            apart: wanted.apart,
            pages,
            path,
            pagemap: pagemap(pid)?,
            files: Vec::new(),
            looked_at: HashMap::new(),
            kept: Vec::new(),
            end: 0,
        })
    }

    pub(crate) fn area(
        &mut self,
        area: &Area,
        flags: &MappingFlags,
        own: &Layout,
    ) -> Result<(), CheckpointError> {
        let holds = |address| (area.start..area.end).contains(&address);
        // A process that was restored has two such stacks: the one that it goes on with, and the one of its start.
        if flags.grows_down && !holds(own.start_stack) && !holds(own.arg_start) {
            return Err(unsupported(format!("its mapping at {:x} grows down", area.start)));
        }
        let from = match &area.of {
            Of::Kernel(_) | Of::Vsyscall => return Ok(()),
            _ if area.shared => {
                let (pid, of) = (self.pid, &area.of);
                return Err(unsupported(format!("process {pid} shares memory with others: {of:?}")));
            }
            Of::Nothing if flags.is_wiped() => From::Nothing,
            Of::Nothing => self.nothing(area)?,
            Of::File(path) if self.apart == Some(path) => From::Apart { offset: area.offset },
            Of::File(path) => self.file(area, path)?,
        };
        let from = match from {
            From::Kept { offset } if holds(own.start_stack) => From::Stack { offset },
            from => from,
        };
        let (start, length) = (area.start, area.length());
        self.kept.push(KeptArea { start, length, rights: area.rights, flags: flags.clone(), from });
        Ok(())
    }

    fn nothing(&mut self, area: &Area) -> Result<From, CheckpointError> {
        let own = own_pages(&self.pagemap, area)?;
        if own.is_empty() { Ok(From::Nothing) } else { self.keep(area, &own) }
    }

    fn file(&mut self, area: &Area, path: &Path) -> Result<From, CheckpointError> {
        if !own_pages(&self.pagemap, area)?.is_empty() {
            return self.keep(area, &[(area.start, area.end)]);
        }
        let index = self.index_of(area, path)?;
        Ok(From::File { index, offset: area.offset })
    }

    /// Which of the mapped files an area's is.
    fn index_of(&mut self, area: &Area, path: &Path) -> Result<usize, CheckpointError> {
        let key = (path.to_owned(), area.inode.clone());
        if let Some(index) = self.looked_at.get(&key) {
            return Ok(*index);
        }
        self.files.push(MappedFile::of_area(area, path)?);
        self.looked_at.insert(key, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    /// Writes runs of an area to where the area is in the file; zeros are left out.
    fn keep(&mut self, area: &Area, runs: &[(u64, u64)]) -> Result<From, CheckpointError> {
        let offset = self.end;
        let mut buffer = vec![0; PIECE];
        for &(start, end) in runs {
            for address in (start..end).step_by(PIECE) {
                let piece = &mut buffer[..PIECE.min((end - address) as usize)];
                self.memory.read(address, piece)?;
                self.write(offset + address - area.start, piece)?;
            }
        }
        self.end += area.length() + if area.rights.write { GAP } else { 0 };
        Ok(From::Kept { offset })
    }

    /// Completes the file: its stamp, the files that are mapped, and all parts of memory.
    pub(crate) fn finish(self) -> Result<(FileStamp, Vec<MappedFile>, Vec<KeptArea>), CheckpointError> {
        self.pages.set_len(self.end + GAP).map_err(file(&self.path))?;
        let pages = self.pages.metadata().map_err(file(&self.path))?;
        Ok((FileStamp::of(&pages), self.files, self.kept))
    }

    fn write(&self, offset: u64, piece: &[u8]) -> Result<(), CheckpointError> {
        let pages = piece.chunks(PAGE as usize).enumerate();
        let pages = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        for (index, page) in pages {
            let written = self.pages.write_all_at(page, offset + index as u64 * PAGE);
            written.map_err(file(&self.path))?;
        }
        Ok(())
    }
}

/// Runs of pages that are the process's own.
pub(crate) fn own_pages(pagemap: &File, area: &Area) -> Result<Vec<(u64, u64)>, CheckpointError> {
    let mut entries = vec![0; (area.length() / PAGE * 8) as usize];
    let read = pagemap.read_exact_at(&mut entries, area.start / PAGE * 8);
    read.map_err(step("list the process's pages"))?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, entry) in entries.chunks_exact(8).enumerate() {
        let entry = entry.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        let is_own = entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
        let start = area.start + index as u64 * PAGE;
        if entry & GUARD != 0 {
            return Err(unsupported(format!("it has a guard page at {start:x}")));
        }
        match runs.last_mut() {
            _ if !is_own => {}
            Some((_, end)) if *end == start => *end += PAGE,
            _ => runs.push((start, start + PAGE)),
        }
    }
    Ok(runs)
}

pub(crate) fn pagemap(pid: Tid) -> Result<File, CheckpointError> {
    let path = PathBuf::from(format!("/proc/{pid}/pagemap"));
    File::open(&path).map_err(file(&path))
}

/// Bits of /proc/PID/pagemap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Made by `madvise`, which the mapping does not show.
const GUARD: u64 = 1 << 58;
