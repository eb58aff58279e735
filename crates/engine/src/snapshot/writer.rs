//! MemoryCopy a machine that stands still into a snapshot's files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mimeo_pager::{Capture, FileError, MappingKind, PAGE, PagerError, Pages, Region, flatten};
use mimeo_vmm::{GuestMemory, Instance, OperationError, SaveKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::manifest::{FileEntry, MEMORY, PAGES, STATE};
use super::{Draft, Snapshots, StoreError};
use crate::durable;
use crate::io_error::IoContext;

/// Why a machine could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Its memory could not be copied.
    #[error("cannot copy the machine's memory")]
    Memory(#[from] PagerError),
    /// Its monitor did not save the devices.
    #[error("cannot save the machine's devices")]
    Devices(#[from] OperationError),
    /// The snapshot's directory could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that copied came to a bad end.
    #[error("the copying was cut off")]
    CutOff,
}

/// A copy in the making. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    pub(crate) draft: Draft,
    memory: MemoryCapture,
    /// What is copied is what differs from the origin's memory.
    is_diff: bool,
}

#[derive(Debug)]
enum MemoryCapture {
    Prepared(Capture),
    Copied(Capture, Pages),
    /// The VMM writes the memory itself.
    VmmPlanned(VmmSave),
    VmmWritten(VmmSave),
    /// A thread has it, or had it when it came to a bad end.
    InUse,
}

/// What a VMM that writes its guest's memory itself is asked for.
#[derive(Debug)]
pub(crate) struct VmmSave {
    pub(crate) kind: SaveKind,
    /// What is saved, with what is below it, is what differs from the origin's memory.
    pub(crate) is_diff: bool,
    /// Whether it is laid over the last save's memory.
    pub(crate) has_base: bool,
    /// Where saves of the machine leave their memory for the next.
    pub(crate) last: Option<LastMemory>,
    /// Told when that is done, dropped when it never will be.
    pub(crate) done: Option<oneshot::Sender<()>>,
}

impl VmmSave {
    /// All memory of a machine, which the next save knows nothing of.
    pub(crate) fn whole() -> Self {
        Self { kind: SaveKind::Full, is_diff: false, has_base: false, last: None, done: None }
    }
}

/// The memory of a machine's last save, in its directory: what the VMM tells of the next is what was written since.
#[derive(Debug, Clone)]
pub(crate) struct LastMemory {
    dir: PathBuf,
}

impl LastMemory {
    pub(crate) fn in_dir(machine_dir: &Path) -> Self {
        Self { dir: machine_dir.to_owned() }
    }

    /// What was saved.
    fn memory(&self) -> PathBuf {
        self.dir.join("last-save")
    }

    /// Its pages: a file that was read may tell of more.
    fn pages(&self) -> PathBuf {
        self.dir.join("last-save.pages")
    }

    /// The same while another save is laid over it.
    fn base(&self) -> PathBuf {
        self.dir.join("last-save.base")
    }

    pub(crate) fn exists(&self) -> bool {
        self.memory().exists() && self.pages().exists()
    }

    /// Just before a VMM forgets what was written until now: a save that fails after that leaves none.
    fn move_aside(&self) -> io::Result<()> {
        fs::rename(self.memory(), self.base())
    }

    /// Lays what a VMM has written over the last save's memory, where `memory` is; the pages of both.
    fn flatten_over_base(&self, memory: &Path, written: &Pages) -> Result<Pages, FileError> {
        let bytes = fs::read(self.pages()).map_err(FileError::reading(&self.pages()))?;
        let base_pages = Pages::from_bytes(&bytes, u64::MAX / PAGE).map_err(io::Error::other);
        let base_pages = base_pages.map_err(FileError::reading(&self.pages()))?;
        flatten(&self.base(), memory, written, memory)?;
        Ok(base_pages.union(written))
    }

    /// Leaves a save's memory for the next. Where that fails the next is of all memory.
    fn store_for_next(&self, memory: &Path, pages: &Pages) {
        self.remove();
        let stored =
            fs::write(self.pages(), pages.to_bytes()).and_then(|()| fs::hard_link(memory, self.memory()));
        if let Err(error) = stored {
            tracing::warn!(component = "snapshot", dir = %self.dir.display(), %error, "the next save will be of all memory");
        }
    }

    /// Forgets it.
    pub(crate) fn remove(&self) {
        for path in [self.memory(), self.pages(), self.base()] {
            // As a rule there are not all of them.
            fs::remove_file(path).ok();
        }
    }
}

/// What a copy consists of.
#[derive(Debug)]
pub(crate) struct WrittenSnapshot {
    pub(crate) draft: Draft,
    pub(crate) files: Vec<FileEntry>,
    /// Bytes of memory that the copy holds.
    pub(crate) memory_bytes: u64,
    /// It holds what differs from the origin's memory; otherwise all.
    pub(crate) is_diff: bool,
}

impl SnapshotWriter {
    /// Makes room for what the machine's memory holds now, while it runs.
    /// `divergent_pages`: pages in which the file that it began as differs from the
    /// memory of its origin.
    pub(crate) async fn prepare(
        store: &Snapshots,
        memory: GuestMemory,
        divergent_pages: Pages,
    ) -> Result<Self, WriteError> {
        let draft = Draft::create(store)?;
        let path = draft.dir.join(MEMORY);
        let is_diff = memory.over_file;
        let capture = spawn_blocking(move || capture(memory, divergent_pages, &path))
            .await
            .map_err(|_| WriteError::CutOff)??;
        Ok(Self { draft, memory: MemoryCapture::Prepared(capture), is_diff })
    }

    /// The same for a machine whose monitor writes its memory itself.
    pub(crate) fn by_vmm(store: &Snapshots, save: VmmSave) -> Result<Self, WriteError> {
        let (draft, is_diff) = (Draft::create(store)?, save.is_diff);
        Ok(Self { draft, memory: MemoryCapture::VmmPlanned(save), is_diff })
    }

    /// Whether a VMM that writes memory itself is about to write what differs from the origin's, or all; none where memory is
    /// read.
    pub(crate) fn planned_vmm_diff(&self) -> Option<bool> {
        matches!(self.memory, MemoryCapture::VmmPlanned(_)).then_some(self.is_diff)
    }

    /// Copies memory and devices of the machine, which must stand still.
    pub(crate) async fn write(&mut self, instance: &mut dyn Instance) -> Result<(), WriteError> {
        let mut capture = match std::mem::replace(&mut self.memory, MemoryCapture::InUse) {
            MemoryCapture::Prepared(capture) => capture,
            MemoryCapture::VmmPlanned(save) => {
                let [state, memory] = [STATE, MEMORY].map(|name| self.draft.dir.join(name));
                if let Some(last) = save.last.as_ref().filter(|_| save.has_base) {
                    last.move_aside().at("rename", last.memory()).map_err(StoreError::from)?;
                }
                instance.save(&state, &memory, save.kind).await?;
                self.memory = MemoryCapture::VmmWritten(save);
                return Ok(());
            }
            MemoryCapture::Copied(..) | MemoryCapture::VmmWritten(_) | MemoryCapture::InUse => {
                return Err(WriteError::CutOff);
            }
        };
        let copying = spawn_blocking(move || {
            let pages = capture.copy_changed()?;
            Ok::<_, PagerError>((capture, pages))
        });
        let devices = instance.save_devices(&self.draft.dir.join(STATE)).await;
        let (capture, pages) = copying.await.map_err(|_| WriteError::CutOff)??;
        self.memory = MemoryCapture::Copied(capture, pages);
        Ok(devices?)
    }

    /// Completes the files, with digests and on the disk when they are to be kept.
    pub(crate) async fn finish(self, is_durable: bool) -> Result<WrittenSnapshot, WriteError> {
        spawn_blocking(move || self.complete(is_durable)).await.map_err(|_| WriteError::CutOff)?
    }

    fn complete(self, is_durable: bool) -> Result<WrittenSnapshot, WriteError> {
        let Self { draft, memory, is_diff } = self;
        let pages = match memory {
            MemoryCapture::Copied(capture, pages) => {
                capture.finish(false, false)?;
                pages
            }
            MemoryCapture::VmmWritten(save) => {
                complete_vmm_memory(&draft.dir.join(MEMORY), save).map_err(PagerError::from)?
            }
            MemoryCapture::Prepared(_) | MemoryCapture::VmmPlanned(_) | MemoryCapture::InUse => {
                return Err(WriteError::CutOff);
            }
        };
        let mut names = vec![STATE, MEMORY];
        if is_diff {
            let path = draft.dir.join(PAGES);
            durable::write(&path, &pages.to_bytes()).at("write", &path).map_err(StoreError::from)?;
            names.push(PAGES);
        }
        let files = names.into_iter().map(|name| draft.file(name, is_durable)).collect::<Result<_, _>>()?;
        Ok(WrittenSnapshot { draft, files, memory_bytes: pages.bytes(), is_diff })
    }
}

/// Makes what a VMM has written what the snapshot is to hold, and leaves it for the next save; its pages.
fn complete_vmm_memory(memory: &Path, save: VmmSave) -> Result<Pages, FileError> {
    // Before anybody reads the file: some filesystems tell of more pages after that.
    let written = mimeo_pager::data_pages(memory)?;
    let pages = match (&save.last, save.kind) {
        (Some(last), SaveKind::Diff) if save.has_base => last.flatten_over_base(memory, &written)?,
        (_, SaveKind::Diff) => written,
        (_, SaveKind::Full) => {
            // What a guest has never used is written as zeros.
            mimeo_pager::punch_zeros(memory)?;
            mimeo_pager::data_pages(memory)?
        }
    };
    if let Some(last) = &save.last {
        last.store_for_next(memory, &pages);
    }
    if let Some(done) = save.done {
        // The machine may have ended meanwhile.
        done.send(()).ok();
    }
    Ok(pages)
}

/// Makes room for a copy of a guest's memory.
pub(crate) fn capture(
    memory: GuestMemory,
    divergent_pages: Pages,
    path: &Path,
) -> Result<Capture, PagerError> {
    let GuestMemory { pid, pieces, over_file } = memory;
    let mapping = if over_file { MappingKind::Private } else { MappingKind::Shared };
    let regions = pieces.iter().map(|piece| Region {
        address: piece.address,
        offset: piece.offset,
        length: piece.length,
    });
    Capture::prepare_with(pid, regions.collect(), mapping, divergent_pages, path)
}
