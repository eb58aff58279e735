//! A clone's memory, and how pages are installed in it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::counters::Counters;
use super::error::ServeError;
use super::memory::SnapshotMemory;
use super::regions::{Layout, Piece};
use crate::bitmap::PageBitmap;
use crate::sparse::page_range;
use crate::userfault::{Event, Messages, Userfault};
use crate::{PAGE, Pages};

/// Pages prefetched between two reads of the descriptor, for which a fault may have to wait: 18, 30, 54 and
/// 99 us with 8, 16, 32 and 64. A clone that touched 64 MiB meanwhile took 42, 35, 34 and 34 ms.
const PREFETCH_BATCH: u64 = 32;
/// Faults at addresses that the clone has unmapped: so many threads may have been waiting at the time.
const MAX_UNKNOWN_FAULTS: u32 = 1024;

/// What to do after reading a clone's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait until there is something to read.
    Wait,
    /// Continue at once.
    More,
    /// Retry: the kernel refuses pages while the memory layout is changing.
    Blocked,
    /// Nothing: the memory is gone.
    Gone,
}

/// The source of a page's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The snapshot's memory.
    Memory,
    /// None: the page is zeros.
    Zeros,
}

/// The position of prefetching in a list of pages: the index of a run, and the next page.
#[derive(Clone, Copy, Debug, Default)]
struct PrefetchCursor {
    run: usize,
    page: u64,
}

/// A clone's memory.
#[derive(Debug)]
pub(super) struct AddressSpace {
    memory: Arc<SnapshotMemory>,
    layout: Layout,
    /// Pages that the clone has removed: zeros from then on. Allocated when first needed, since it is sized
    /// for the whole memory.
    removed: Option<PageBitmap>,
    /// Fault addresses, in order.
    pending: VecDeque<u64>,
    messages: Messages,
    /// Whether memory has been unmapped or moved, and how many faults had an unknown address.
    layout_changed: bool,
    unknown_faults: u32,
    cursor: PrefetchCursor,
    /// The most pages installed per fault.
    fault_around: u64,
    pub(super) counters: Counters,
}

impl AddressSpace {
    pub(super) fn new(memory: Arc<SnapshotMemory>, layout: Layout, fault_around: u64) -> Self {
        Self {
            memory,
            layout,
            removed: None,
            pending: VecDeque::new(),
            messages: Messages::new(),
            layout_changed: false,
            unknown_faults: 0,
            cursor: PrefetchCursor::default(),
            fault_around,
            counters: Counters::default(),
        }
    }

    /// Reads events and answers faults. Events come first: the kernel installs no page while an event is
    /// unread, and a removed page must not come back with its old content.
    pub(super) fn handle_messages(&mut self, userfault: &Userfault) -> Result<Next, ServeError> {
        userfault.read(&mut self.messages).map_err(|error| ServeError::Read(error.into()))?;
        self.handle_events()?;
        match self.answer_faults(userfault)? {
            Next::Wait if self.messages.is_full() => Ok(Next::More),
            next => Ok(next),
        }
    }

    fn handle_events(&mut self) -> Result<(), ServeError> {
        for event in self.messages.events() {
            match event {
                Event::Fault { address } => self.pending.push_back(address),
                Event::Remove { addresses } => {
                    let removed = self.removed.get_or_insert_with(|| self.memory.empty_set());
                    for piece in self.layout.within(&addresses) {
                        let pages = page_range(piece.bytes());
                        removed.insert(&pages);
                        self.counters.removed += pages.end - pages.start;
                    }
                }
                Event::Unmap { addresses } => {
                    self.layout.cut(&addresses);
                    self.layout_changed = true;
                }
                Event::Remap { from, to } => {
                    self.layout.shift(&from, to);
                    self.layout_changed = true;
                }
                Event::Other { number } => return Err(ServeError::Event { number }),
            }
        }
        if self.layout.has_too_many_pieces() { Err(ServeError::TooManyPieces) } else { Ok(()) }
    }

    fn answer_faults(&mut self, userfault: &Userfault) -> Result<Next, ServeError> {
        while let Some(address) = self.pending.front().copied() {
            match self.answer_fault(userfault, address)? {
                Next::Wait => self.pending.pop_front(),
                next => return Ok(next),
            };
        }
        Ok(Next::Wait)
    }

    /// Installs the faulting page, and those after it.
    fn answer_fault(&mut self, userfault: &Userfault, address: u64) -> Result<Next, ServeError> {
        let Some(piece) = self.layout.find(address) else {
            return self.handle_unknown_address(userfault, address);
        };
        let (source, block) = self.same_source(&piece.block(address, self.fault_around * PAGE));
        let one = block.first();
        match self.install(userfault, source, &block) {
            Ok(bytes) => self.count_installed(source, block.offset, bytes),
            // The page is already installed, or no longer mapped; the waiting thread retries and finds out.
            Err(Errno::EXIST | Errno::NOENT) => wake(userfault, &one.addresses)?,
            Err(error) => return interpret_error(error, &one),
        }
        self.counters.faults += 1;
        Ok(Next::Wait)
    }

    /// Handles a fault at an unknown address. If the layout has changed, the address may have been valid
    /// before, and the waiting thread is woken to find out.
    fn handle_unknown_address(&mut self, userfault: &Userfault, address: u64) -> Result<Next, ServeError> {
        self.unknown_faults += 1;
        if !self.layout_changed || self.unknown_faults > MAX_UNKNOWN_FAULTS {
            return Err(ServeError::UnknownAddress { address });
        }
        let page = address / PAGE * PAGE;
        wake(userfault, &(page..page + PAGE))?;
        Ok(Next::Wait)
    }

    /// Installs some pages of a list before they are touched, and continues where the last call stopped.
    ///
    /// Pages are installed in address order. The order of earlier faults could spare a guest some faults
    /// meanwhile; but of 16,384 pages that a clone touched at random and as fast as it could from its start,
    /// it had to wait for about 450, and runs of pages are copied at half the cost of single ones.
    pub(super) fn prefetch(&mut self, userfault: &Userfault, list: &Pages) -> Result<Next, ServeError> {
        let mut budget = PREFETCH_BATCH;
        while budget > 0 {
            let Some(run) = list.run(self.cursor.run) else { return Ok(Next::Wait) };
            let start = run.start.max(self.cursor.page);
            let end = run.end.min(start + budget);
            let next = match self.prefetch_bytes(userfault, &(start * PAGE..end * PAGE)) {
                Ok(Next::Wait) => self.cursor.run + usize::from(end == run.end),
                // Prefetching must not cost the clone its life: stop it for good.
                Err(ServeError::NoMemory(_)) => usize::MAX,
                other => return other,
            };
            self.cursor = PrefetchCursor { run: next, page: end };
            budget -= end - start;
        }
        Ok(Next::More)
    }

    /// Installs the missing pages of these bytes of the memory.
    fn prefetch_bytes(&mut self, userfault: &Userfault, bytes: &Range<u64>) -> Result<Next, ServeError> {
        let pieces: Vec<_> = self.layout.holding(bytes).collect();
        for mut rest in pieces {
            while !rest.addresses.is_empty() {
                let (source, block) = self.same_source(&rest);
                let done = match self.install(userfault, source, &block) {
                    Ok(bytes) => {
                        self.counters.prefetched += bytes / PAGE;
                        bytes
                    }
                    // It is already installed, or no longer mapped: go to the next one.
                    Err(Errno::EXIST | Errno::NOENT) => block.page,
                    Err(error) => return interpret_error(error, &block),
                };
                rest = rest.skip(done);
            }
        }
        Ok(Next::Wait)
    }

    /// The first pages of a piece that have the same source.
    fn same_source(&self, piece: &Piece) -> (Source, Piece) {
        let source = |offset| self.source(offset, piece.page);
        let mut offsets = piece.bytes().step_by(piece.page as usize);
        let first = offsets.next().map_or(Source::Zeros, source);
        let count = 1 + offsets.take_while(|offset| source(*offset) == first).count() as u64;
        (first, piece.prefix(count * piece.page))
    }

    fn source(&self, offset: u64, bytes: u64) -> Source {
        let pages = page_range(offset..offset + bytes);
        match self.is_removed(&pages) || !self.memory.has_data(pages) {
            true => Source::Zeros,
            false => Source::Memory,
        }
    }

    fn is_removed(&self, pages: &Range<u64>) -> bool {
        self.removed.as_ref().is_some_and(|removed| removed.contains_any(pages.clone()))
    }

    /// Installs pages, as far as the kernel does; returns the number of bytes.
    fn install(&self, userfault: &Userfault, source: Source, to: &Piece) -> Result<u64, Errno> {
        match self.install_all(userfault, source, to) {
            // The block may reach into memory that is mapped differently.
            Err(Errno::NOENT) if *to != to.first() => self.install_all(userfault, source, &to.first()),
            result => result,
        }
    }

    fn install_all(&self, userfault: &Userfault, source: Source, to: &Piece) -> Result<u64, Errno> {
        let Piece { addresses, offset, page } = to;
        let length = addresses.end - addresses.start;
        match source {
            Source::Memory => userfault.copy(addresses.start, (&self.memory.mapping, *offset), length),
            Source::Zeros if *page == PAGE => userfault.zero(addresses.clone()),
            // The kernel cannot install huge zero pages.
            Source::Zeros => userfault.copy(addresses.start, (&self.memory.zeros, 0), *page),
        }
    }

    fn count_installed(&mut self, source: Source, offset: u64, bytes: u64) {
        match source {
            Source::Memory => {
                self.memory.record_fault(&page_range(offset..offset + bytes));
                self.counters.copied += bytes / PAGE;
            }
            Source::Zeros => self.counters.zeroed += bytes / PAGE,
        }
    }
}

/// What follows from a page that could not be installed.
fn interpret_error(error: Errno, at: &Piece) -> Result<Next, ServeError> {
    match error {
        Errno::AGAIN => Ok(Next::Blocked),
        Errno::SRCH => Ok(Next::Gone),
        Errno::FAULT => Err(ServeError::MemoryFile { offset: at.offset }),
        Errno::NOMEM | Errno::NOSPC => Err(ServeError::NoMemory(error.into())),
        _ => Err(ServeError::InstallPage { address: at.addresses.start, source: error.into() }),
    }
}

fn wake(userfault: &Userfault, addresses: &Range<u64>) -> Result<(), ServeError> {
    let error = |source: Errno| ServeError::InstallPage { address: addresses.start, source: source.into() };
    userfault.wake(addresses.clone()).map_err(error)
}
