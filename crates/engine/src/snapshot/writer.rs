//! Writes the memory and the devices of a paused machine into a snapshot's files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mimeo_pager::{Capture, FileError, MappingKind, PAGE, PagerError, Pages, Region, flatten};
use mimeo_vmm::{GuestMemory, Instance, OperationError, SaveKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::manifest::{FileEntry, MEMORY, PAGES, STATE};
use super::{Draft, StoreError};
use crate::durable;
use crate::ignored::LogIgnored;
use crate::io_error::IoContext;

/// Why a machine could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Its memory could not be copied.
    #[error("cannot copy the machine's memory")]
    Memory(#[from] PagerError),
    /// Its VMM did not save the devices.
    #[error("cannot save the machine's devices")]
    Devices(#[from] OperationError),
    /// The snapshot's directory could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that copied the memory panicked, or a step was called out of order.
    #[error("the memory copy ended before it was complete, which is a bug in mimeo")]
    Interrupted,
}

/// A snapshot under construction. Dropping it removes the draft.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    pub(crate) draft: Draft,
    memory: MemoryCapture,
    /// The memory is stored as a difference to the origin's.
    is_diff: bool,
}

#[derive(Debug)]
enum MemoryCapture {
    Prepared(Capture),
    Copied(Capture, Pages),
    /// The VMM will write the memory itself.
    VmmPlanned(VmmSave),
    VmmWritten(VmmSave),
    /// In use by a thread, or lost because that thread panicked.
    InUse,
}

/// How a VMM is to save its guest's memory, for VMMs that write it themselves.
#[derive(Debug)]
pub(crate) struct VmmSave {
    pub(crate) kind: SaveKind,
    /// The result, merged with the base, is the difference to the origin's memory.
    pub(crate) is_diff: bool,
    /// Whether the save is merged with the last save's memory.
    pub(crate) has_base: bool,
    /// Where the machine's saves leave their memory for the next one.
    pub(crate) last: Option<LastMemory>,
    /// Notified when the memory is stored for the next save; dropped if that failed.
    pub(crate) done: Option<oneshot::Sender<()>>,
}

impl VmmSave {
    /// A save of all memory, which leaves nothing for the next save.
    pub(crate) fn full() -> Self {
        Self { kind: SaveKind::Full, is_diff: false, has_base: false, last: None, done: None }
    }
}

/// The memory of a machine's last save, in the machine's directory. A VMM that tracks writes reports the
/// pages written since that save.
#[derive(Debug, Clone)]
pub(crate) struct LastMemory {
    dir: PathBuf,
}

impl LastMemory {
    pub(crate) fn in_dir(machine_dir: &Path) -> Self {
        Self { dir: machine_dir.to_owned() }
    }

    /// The saved memory.
    fn memory(&self) -> PathBuf {
        self.dir.join("last-save")
    }

    /// The set of its pages: a filesystem may report more data pages once the file was read.
    fn pages(&self) -> PathBuf {
        self.dir.join("last-save.pages")
    }

    /// The saved memory while it is merged with the next save.
    fn base(&self) -> PathBuf {
        self.dir.join("last-save.base")
    }

    pub(crate) fn exists(&self) -> bool {
        self.memory().exists() && self.pages().exists()
    }

    /// Called just before the VMM resets its record of written pages: if the save then fails, the next one
    /// saves all memory.
    fn move_aside(&self) -> io::Result<()> {
        fs::rename(self.memory(), self.base())
    }

    /// Merges what a VMM has written to `memory` over the last save's memory; returns the pages of both.
    fn flatten_over_base(&self, memory: &Path, written: &Pages) -> Result<Pages, FileError> {
        let bytes = fs::read(self.pages()).map_err(FileError::reading(&self.pages()))?;
        let base_pages = Pages::from_bytes(&bytes, u64::MAX / PAGE).map_err(io::Error::other);
        let base_pages = base_pages.map_err(FileError::reading(&self.pages()))?;
        flatten(&self.base(), memory, written, memory)?;
        Ok(base_pages.union(written))
    }

    /// Stores a save's memory for the next one. If that fails, the next save saves all memory.
    fn store_for_next(&self, memory: &Path, pages: &Pages) {
        self.remove();
        let stored =
            fs::write(self.pages(), pages.to_bytes()).and_then(|()| fs::hard_link(memory, self.memory()));
        if let Err(error) = stored {
            tracing::warn!(component = "snapshot", dir = %self.dir.display(), %error, "cannot store the memory for the next save, which will save all memory");
        }
    }

    /// Removes all files of the last save.
    pub(crate) fn remove(&self) {
        for path in [self.memory(), self.pages(), self.base()] {
            // Usually only some of them exist.
            fs::remove_file(&path).log_ignored("remove", &path);
        }
    }
}

/// The files of a snapshot that is complete but not committed.
#[derive(Debug)]
pub(crate) struct WrittenSnapshot {
    pub(crate) draft: Draft,
    pub(crate) files: Vec<FileEntry>,
    /// Bytes of memory that the snapshot stores.
    pub(crate) memory_bytes: u64,
    /// Whether the memory is stored as a difference to the origin's.
    pub(crate) is_diff: bool,
}

impl SnapshotWriter {
    /// Allocates space for the machine's current memory while the machine runs. `divergent_pages`: the
    /// pages in which the memory file that the machine was restored from differs from its origin's memory.
    pub(crate) async fn prepare(
        draft: Draft,
        memory: GuestMemory,
        divergent_pages: Pages,
    ) -> Result<Self, WriteError> {
        let path = draft.dir.join(MEMORY);
        let is_diff = memory.over_file;
        let capture = spawn_blocking(move || capture(memory, divergent_pages, &path))
            .await
            .map_err(|_| WriteError::Interrupted)??;
        Ok(Self { draft, memory: MemoryCapture::Prepared(capture), is_diff })
    }

    /// The same for a VMM that writes its memory itself.
    pub(crate) fn for_vmm(draft: Draft, save: VmmSave) -> Self {
        let is_diff = save.is_diff;
        Self { draft, memory: MemoryCapture::VmmPlanned(save), is_diff }
    }

    /// For a VMM that writes its memory itself: whether the planned save is a difference to the origin's
    /// memory. `None` for other VMMs.
    pub(crate) fn planned_vmm_diff(&self) -> Option<bool> {
        matches!(self.memory, MemoryCapture::VmmPlanned(_)).then_some(self.is_diff)
    }

    /// Saves the memory and the devices of the machine, which must be paused.
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
                return Err(WriteError::Interrupted);
            }
        };
        let copying = spawn_blocking(move || {
            let pages = capture.copy_changed()?;
            Ok::<_, PagerError>((capture, pages))
        });
        let devices = instance.save_devices(&self.draft.dir.join(STATE)).await;
        let (capture, pages) = copying.await.map_err(|_| WriteError::Interrupted)??;
        self.memory = MemoryCapture::Copied(capture, pages);
        Ok(devices?)
    }

    /// Completes the files; if the snapshot is durable, syncs them and computes their digests.
    pub(crate) async fn finish(self, is_durable: bool) -> Result<WrittenSnapshot, WriteError> {
        spawn_blocking(move || self.complete(is_durable)).await.map_err(|_| WriteError::Interrupted)?
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
                return Err(WriteError::Interrupted);
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

/// Turns the memory that a VMM has written into the snapshot's memory, and stores it for the next save;
/// returns its pages.
fn complete_vmm_memory(memory: &Path, save: VmmSave) -> Result<Pages, FileError> {
    // Before the file is read: some filesystems report more data pages after that.
    let written = mimeo_pager::data_pages(memory)?;
    let pages = match (&save.last, save.kind) {
        (Some(last), SaveKind::Diff) if save.has_base => last.flatten_over_base(memory, &written)?,
        (_, SaveKind::Diff) => written,
        (_, SaveKind::Full) => {
            // The VMM writes zeros for memory that the guest never used.
            mimeo_pager::punch_zeros(memory)?;
            mimeo_pager::data_pages(memory)?
        }
    };
    if let Some(last) = &save.last {
        last.store_for_next(memory, &pages);
    }
    if let Some(done) = save.done {
        // The machine may have ended.
        done.send(()).ok();
    }
    Ok(pages)
}

/// Allocates space for a copy of a guest's memory.
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
