//! Copying a machine that stands still into a snapshot's files.

use std::fs;
use std::path::{Path, PathBuf};

use mimeo_pager::{Capture, FileError, Held, PagerError, Pages, Region, lay};
use mimeo_vmm::{GuestMemory, Instance, OperationError, SaveKind};
use tokio::task::spawn_blocking;

use super::manifest::{FileEntry, MEMORY, PAGES, STATE};
use super::{Draft, Snapshots, StoreError};
use crate::durable;

/// Why a machine could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
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
pub(crate) struct Taking {
    pub(crate) draft: Draft,
    copying: Copying,
    /// What is copied is what differs from the origin's memory.
    differs: bool,
}

#[derive(Debug)]
enum Copying {
    Ready(Capture),
    Done(Capture, Pages),
    /// The VMM writes the memory itself.
    Monitors(VmmSave),
    Written(VmmSave),
    /// A thread has it, or had it when it came to a bad end.
    Away,
}

/// What a VMM that writes its guest's memory itself is asked for.
#[derive(Debug, Clone)]
pub(crate) struct VmmSave {
    pub(crate) kind: SaveKind,
    /// What is saved, with what is below it, is what differs from the origin's memory.
    pub(crate) differs: bool,
    /// The memory of the last save, over which this one is laid.
    pub(crate) base: Option<PathBuf>,
    /// Where the next save finds this one's memory.
    pub(crate) next: Option<PathBuf>,
}

impl VmmSave {
    /// All memory of a machine that is saved once.
    pub(crate) fn whole() -> Self {
        Self { kind: SaveKind::Full, differs: false, base: None, next: None }
    }
}

/// What a copy consists of.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) draft: Draft,
    pub(crate) files: Vec<FileEntry>,
    /// Bytes of memory that the copy holds.
    pub(crate) memory_bytes: u64,
    /// It holds what differs from the origin's memory; otherwise all.
    pub(crate) differs: bool,
}

impl Taking {
    /// Makes room for what the machine's memory holds now, while it runs.
    /// `besides`: pages in which the file that it began as differs from the
    /// memory of its origin.
    pub(crate) async fn prepare(
        store: &Snapshots,
        memory: GuestMemory,
        besides: Pages,
    ) -> Result<Self, TakeError> {
        let draft = Draft::begin(store)?;
        let path = draft.dir.join(MEMORY);
        let differs = memory.over_file;
        let capture = spawn_blocking(move || capture(memory, besides, &path))
            .await
            .map_err(|_| TakeError::CutOff)??;
        Ok(Self { draft, copying: Copying::Ready(capture), differs })
    }

    /// The same for a machine whose monitor writes its memory itself.
    pub(crate) fn by_vmm(store: &Snapshots, save: VmmSave) -> Result<Self, TakeError> {
        let (draft, differs) = (Draft::begin(store)?, save.differs);
        Ok(Self { draft, copying: Copying::Monitors(save), differs })
    }

    /// Copies memory and devices of the machine, which must stand still.
    pub(crate) async fn take(&mut self, instance: &mut dyn Instance) -> Result<(), TakeError> {
        let mut capture = match std::mem::replace(&mut self.copying, Copying::Away) {
            Copying::Ready(capture) => capture,
            Copying::Monitors(save) => {
                let [state, memory] = [STATE, MEMORY].map(|name| self.draft.dir.join(name));
                instance.save(&state, &memory, save.kind).await?;
                self.copying = Copying::Written(save);
                return Ok(());
            }
            Copying::Done(..) | Copying::Written(_) | Copying::Away => return Err(TakeError::CutOff),
        };
        let copying = spawn_blocking(move || {
            let pages = capture.take()?;
            Ok::<_, PagerError>((capture, pages))
        });
        let devices = instance.save_devices(&self.draft.dir.join(STATE)).await;
        let (capture, pages) = copying.await.map_err(|_| TakeError::CutOff)??;
        self.copying = Copying::Done(capture, pages);
        Ok(devices?)
    }

    /// Completes the files, with digests and on the disk when they are to be kept.
    pub(crate) async fn finish(self, keep: bool) -> Result<Taken, TakeError> {
        spawn_blocking(move || self.complete(keep)).await.map_err(|_| TakeError::CutOff)?
    }

    fn complete(self, keep: bool) -> Result<Taken, TakeError> {
        let Self { draft, copying, differs } = self;
        let pages = match copying {
            Copying::Done(capture, pages) => {
                capture.finish(false, false)?;
                pages
            }
            Copying::Written(save) => complete(&draft.dir.join(MEMORY), &save).map_err(PagerError::from)?,
            Copying::Ready(_) | Copying::Monitors(_) | Copying::Away => return Err(TakeError::CutOff),
        };
        let mut names = vec![STATE, MEMORY];
        if differs {
            let path = draft.dir.join(PAGES);
            durable::write(&path, &pages.to_bytes()).map_err(|source| StoreError::Io {
                step: "write",
                path,
                source,
            })?;
            names.push(PAGES);
        }
        let files = names.into_iter().map(|name| draft.file(name, keep)).collect::<Result<_, _>>()?;
        Ok(Taken { draft, files, memory_bytes: pages.bytes(), differs })
    }
}

/// Makes what a VMM has written what the snapshot is to hold, and leaves it for the next save; its pages.
fn complete(memory: &Path, save: &VmmSave) -> Result<Pages, FileError> {
    match (&save.base, save.kind) {
        (Some(base), _) => {
            lay(base, memory, &mimeo_pager::data(memory)?, memory)?;
            if let Err(error) = fs::remove_file(base) {
                tracing::warn!(component = "snapshot", path = %base.display(), %error, "cannot be removed");
            }
        }
        // What a guest has never used is written as zeros.
        (None, SaveKind::Full) => mimeo_pager::punch_zeros(memory)?,
        (None, SaveKind::Diff) => {}
    }
    if let Some(next) = &save.next
        && let Err(error) = fs::hard_link(memory, next)
    {
        tracing::warn!(component = "snapshot", path = %next.display(), %error, "the next save will be of all memory");
    }
    mimeo_pager::data(memory)
}

/// Makes room for a copy of a guest's memory.
pub(crate) fn capture(memory: GuestMemory, besides: Pages, path: &Path) -> Result<Capture, PagerError> {
    let GuestMemory { pid, pieces, over_file } = memory;
    let held = if over_file { Held::Private } else { Held::Shared };
    let regions = pieces.iter().map(|piece| Region {
        address: piece.address,
        offset: piece.offset,
        length: piece.length,
    });
    Capture::prepare_with(pid, regions.collect(), held, besides, path)
}
