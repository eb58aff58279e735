//! Writes a process's memory to a file.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::PAGE;
use crate::dump::DumpRequest;
use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence::Tid;
use crate::flags::MappingFlags;
use crate::image::{Backing, DumpedArea, Layout, PAGES_FILE};
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::{Area, MappingKind};
use crate::tracee::Memory;

/// Bytes that are read at a time.
pub(crate) const CHUNK: usize = 1 << 20;
/// Unused space after each area: a mapping that grows finds zeros behind it, not the content of another area.
const GROWTH_GAP: u64 = 64 << 20;

/// Writes memory to [`PAGES_FILE`] and records the backing of each area.
pub(crate) struct PageWriter<'a> {
    pid: Tid,
    memory: &'a Memory,
    external: Option<&'a Path>,
    pages: File,
    path: PathBuf,
    pagemap: File,
    files: Vec<MappedFile>,
    /// The index in `files`, by path and inode as maps shows them.
    file_indexes: HashMap<(PathBuf, (String, u64)), usize>,
    areas: Vec<DumpedArea>,
    /// Bytes of the file so far.
    length: u64,
}

impl<'a> PageWriter<'a> {
    pub(crate) fn new(
        pid: Tid,
        memory: &'a Memory,
        request: DumpRequest<'a>,
    ) -> Result<Self, CheckpointError> {
        let path = request.dir.join(PAGES_FILE);
        let pages = File::create_new(&path).map_err(file(&path))?;
        Ok(Self {
            pid,
            memory,
            external: request.external,
            pages,
            path,
            pagemap: pagemap(pid)?,
            files: Vec::new(),
            file_indexes: HashMap::new(),
            areas: Vec::new(),
            length: 0,
        })
    }

    pub(crate) fn add_area(
        &mut self,
        area: &Area,
        flags: &MappingFlags,
        layout: &Layout,
    ) -> Result<(), CheckpointError> {
        let contains = |address| (area.start..area.end).contains(&address);
        // A restored process has two such stacks: its own, and the one that it started with.
        if flags.grows_down && !contains(layout.start_stack) && !contains(layout.arg_start) {
            return Err(unsupported(format!("the mapping at {:x} grows down", area.start)));
        }
        let backing = match &area.kind {
            MappingKind::Kernel(_) | MappingKind::Vsyscall => return Ok(()),
            _ if area.shared => {
                let (pid, kind) = (self.pid, &area.kind);
                return Err(unsupported(format!("process {pid} has a shared mapping: {kind:?}")));
            }
            MappingKind::Anonymous if flags.is_wiped() => Backing::Zero,
            MappingKind::Anonymous => self.dump_anonymous(area)?,
            MappingKind::File(path) if self.external == Some(path) => {
                Backing::External { offset: area.offset }
            }
            MappingKind::File(path) => self.dump_file_mapping(area, path)?,
        };
        let backing = match backing {
            Backing::Dumped { offset } if contains(layout.start_stack) => Backing::Stack { offset },
            backing => backing,
        };
        let (start, length) = (area.start, area.length());
        self.areas.push(DumpedArea { start, length, rights: area.rights, flags: flags.clone(), backing });
        Ok(())
    }

    fn dump_anonymous(&mut self, area: &Area) -> Result<Backing, CheckpointError> {
        let own = own_pages(&self.pagemap, area)?;
        if own.is_empty() { Ok(Backing::Zero) } else { self.dump_runs(area, &own) }
    }

    fn dump_file_mapping(&mut self, area: &Area, path: &Path) -> Result<Backing, CheckpointError> {
        if !own_pages(&self.pagemap, area)?.is_empty() {
            return self.dump_runs(area, &[(area.start, area.end)]);
        }
        let index = self.file_index(area, path)?;
        Ok(Backing::File { index, offset: area.offset })
    }

    /// The index of an area's file in `files`.
    fn file_index(&mut self, area: &Area, path: &Path) -> Result<usize, CheckpointError> {
        let key = (path.to_owned(), area.inode.clone());
        if let Some(index) = self.file_indexes.get(&key) {
            return Ok(*index);
        }
        self.files.push(MappedFile::from_area(area, path)?);
        self.file_indexes.insert(key, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    /// Writes runs of an area, each at the area's offset in the file plus its own; zeros are left out.
    fn dump_runs(&mut self, area: &Area, runs: &[(u64, u64)]) -> Result<Backing, CheckpointError> {
        let offset = self.length;
        let mut buffer = vec![0; CHUNK];
        for &(start, end) in runs {
            for address in (start..end).step_by(CHUNK) {
                let chunk = &mut buffer[..CHUNK.min((end - address) as usize)];
                self.memory.read(address, chunk)?;
                self.write(offset + address - area.start, chunk)?;
            }
        }
        self.length += area.length() + if area.rights.write { GROWTH_GAP } else { 0 };
        Ok(Backing::Dumped { offset })
    }

    /// Completes the file. Gives its stamp, the mapped files, and all areas.
    pub(crate) fn finish(self) -> Result<(FileStamp, Vec<MappedFile>, Vec<DumpedArea>), CheckpointError> {
        self.pages.set_len(self.length + GROWTH_GAP).map_err(file(&self.path))?;
        let pages = self.pages.metadata().map_err(file(&self.path))?;
        Ok((FileStamp::from_metadata(&pages), self.files, self.areas))
    }

    fn write(&self, offset: u64, chunk: &[u8]) -> Result<(), CheckpointError> {
        let pages = chunk.chunks(PAGE as usize).enumerate();
        let pages = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        for (index, page) in pages {
            let written = self.pages.write_all_at(page, offset + index as u64 * PAGE);
            written.map_err(file(&self.path))?;
        }
        Ok(())
    }
}

/// Runs of pages that belong to the process alone.
pub(crate) fn own_pages(pagemap: &File, area: &Area) -> Result<Vec<(u64, u64)>, CheckpointError> {
    let mut entries = vec![0; (area.length() / PAGE * 8) as usize];
    let read = pagemap.read_exact_at(&mut entries, area.start / PAGE * 8);
    read.map_err(step("list the process's pages"))?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, entry) in entries.chunks_exact(8).enumerate() {
        let entry = entry.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        let is_own = entry & (PRESENT | SWAPPED) != 0 && entry & FILE_BACKED == 0;
        let start = area.start + index as u64 * PAGE;
        if entry & GUARD != 0 {
            return Err(unsupported(format!("there is a guard page at {start:x}")));
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
const FILE_BACKED: u64 = 1 << 61;
/// A guard page made by `madvise`, which the mapping does not show.
const GUARD: u64 = 1 << 58;
