//! A fake VMM for tests and measurements: it plays Firecracker's part towards a page server. A process may
//! have any number of these.

pub mod bare;
mod fence;

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use crate::PAGE;
use crate::userfault::{EVENT_REMAP, EVENT_REMOVE, EVENT_UNMAP};
use fence::Mapping;

/// Bytes of a huge page.
pub const HUGE_PAGE: u64 = 2 << 20;
/// The userfaultfd features that Firecracker requests.
pub const FEATURES: u64 = EVENT_REMOVE;
/// All userfaultfd features that can be served.
pub const ALL_FEATURES: u64 = EVENT_REMOVE | EVENT_UNMAP | EVENT_REMAP;

const WORDS: usize = PAGE as usize / size_of::<u64>();

/// Memory of this process that a page server serves.
#[derive(Debug)]
pub struct Guest {
    regions: Vec<Region>,
    descriptor: Option<OwnedFd>,
    page: u64,
}

#[derive(Debug)]
struct Region {
    mapping: Mapping,
    /// Its offset in guest memory.
    offset: u64,
}

impl Region {
    fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.mapping.length()
    }
}

impl Guest {
    /// Maps regions of these sizes, with pages of `page` bytes, and registers them with a userfaultfd with
    /// these features.
    ///
    /// # Errors
    /// When such pages are not available, or this process may not create a userfaultfd.
    pub fn new(sizes: &[u64], page: u64, features: u64) -> io::Result<Self> {
        let descriptor = fence::descriptor(features)?;
        let mut guest = Self { regions: Vec::new(), descriptor: None, page };
        for size in sizes {
            let mapping = Mapping::new(*size, page > PAGE)?;
            mapping.register(&descriptor)?;
            guest.add(mapping);
        }
        guest.descriptor = Some(descriptor);
        Ok(guest)
    }

    /// Maps a file privately, which needs no page server.
    ///
    /// # Errors
    /// When the file cannot be read or mapped.
    pub fn from_file(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let mut guest = Self { regions: Vec::new(), descriptor: None, page: PAGE };
        guest.add(Mapping::private(&file, file.metadata()?.len())?);
        Ok(guest)
    }

    fn add(&mut self, mapping: Mapping) {
        let offset = self.regions.last().map_or(0, |region| region.bytes().end);
        self.regions.push(Region { mapping, offset });
    }

    /// The handshake message.
    #[must_use]
    pub fn message(&self) -> Value {
        let regions = self.regions.iter().map(|Region { mapping, offset }| {
            json!({
                "base_host_virt_addr": mapping.address(), "size": mapping.length(), "offset": offset,
                "page_size": self.page, "page_size_kib": self.page,
            })
        });
        regions.collect()
    }

    /// Its userfaultfd, if it has one.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Connects and sends the handshake, as a VMM does. The connection stays open while the returned stream
    /// is kept.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn hand_over(&self, socket: &Path) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(socket)?;
        send(&stream, self.message().to_string().as_bytes(), self.descriptor().as_slice())?;
        Ok(stream)
    }

    /// Reads the first word of a page, which may wait for a fault.
    #[must_use]
    pub fn touch(&self, page: u64) -> u64 {
        self.words(page)[0].load(Ordering::Relaxed)
    }

    /// Reads a page.
    #[must_use]
    pub fn read(&self, page: u64) -> Vec<u8> {
        self.words(page).iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
    }

    /// Fills a page with one byte.
    pub fn write(&self, page: u64, byte: u8) {
        let word = u64::from_le_bytes([byte; size_of::<u64>()]);
        self.words(page).iter().for_each(|slot| slot.store(word, Ordering::Relaxed));
    }

    /// Removes pages, as a balloon does.
    ///
    /// # Errors
    /// When the pages are not in one region, or no longer mapped.
    pub fn remove(&self, pages: Range<u64>) -> io::Result<()> {
        let bytes = pages.start * PAGE..pages.end * PAGE;
        let region = self.region(bytes.start);
        region.mapping.remove(bytes.start - region.offset..bytes.end - region.offset)
    }

    /// Moves the region that begins with a page to other addresses.
    ///
    /// # Errors
    /// When `mremap` fails.
    pub fn shift(&mut self, page: u64) -> io::Result<()> {
        let region = self.regions.iter_mut().find(|region| region.offset == page * PAGE);
        region.map_or(Ok(()), |region| region.mapping.shift())
    }

    /// Unmaps the region that begins with a page.
    pub fn unmap(&mut self, page: u64) {
        self.regions.retain(|region| region.offset != page * PAGE);
    }

    fn words(&self, page: u64) -> &[AtomicU64] {
        let region = self.region(page * PAGE);
        let first = (page * PAGE - region.offset) as usize / size_of::<u64>();
        &region.mapping.words()[first..first + WORDS]
    }

    /// The region that contains an offset.
    ///
    /// # Panics
    /// When no region contains it.
    fn region(&self, offset: u64) -> &Region {
        let found = self.regions.iter().find(|region| region.bytes().contains(&offset));
        found.expect("a page of this memory")
    }
}

/// Sends bytes and descriptors in one message.
///
/// # Errors
/// When the connection fails.
pub fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}
