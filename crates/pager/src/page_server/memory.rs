//! The memory of the snapshot that all clones start from: one file, mapped once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::regions::HUGE_PAGE;
use crate::bitmap::PageBitmap;
use crate::fence::Mapping;
use crate::{FileError, PAGE, Pages, sparse};

/// The memory of a snapshot, and which pages clones have faulted in.
#[derive(Debug)]
pub(super) struct SnapshotMemory {
    pub(super) mapping: Mapping,
    /// A huge page of zeros: the kernel's zero page exists for small pages only.
    pub(super) zeros: Mapping,
    bytes: u64,
    /// The pages that have data in the file. The rest are holes: zeros, which need not be copied.
    data: PageBitmap,
    /// The pages that faults have installed.
    faulted: PageBitmap,
}

impl SnapshotMemory {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let open = File::open(path).and_then(|file| Self::map(&file));
        open.map_err(FileError::reading(path))
    }

    fn map(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let data = PageBitmap::from(&sparse::data_pages(file)?);
        let (mapping, zeros) = (Mapping::read_only(file, bytes)?, Mapping::zeros(HUGE_PAGE as usize)?);
        Ok(Self { mapping, zeros, bytes, data, faulted: PageBitmap::new(bytes.div_ceil(PAGE)) })
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An empty set for its pages.
    pub(super) fn empty_set(&self) -> PageBitmap {
        PageBitmap::new(self.bytes.div_ceil(PAGE))
    }

    /// Whether any of these pages has data.
    pub(super) fn has_data(&self, mut pages: Range<u64>) -> bool {
        pages.any(|page| self.data.contains(page))
    }

    /// Records pages that a fault has installed.
    pub(super) fn record_fault(&self, pages: &Range<u64>) {
        self.faulted.insert(pages);
    }

    /// The pages that faults have installed.
    pub(super) fn faulted(&self) -> Pages {
        self.faulted.pages()
    }

    /// Reads pages into the page cache and maps them; waits for the disk.
    pub(super) fn read_ahead(&self, pages: &Pages) {
        for run in pages.extents() {
            // Pages that cannot be read are reported when they are copied.
            self.mapping.read_ahead(run).ok();
        }
    }
}
