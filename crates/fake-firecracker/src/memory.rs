//! Guest memory, by pages.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

use crate::fence::{self, Mapping, Page};
use crate::version;

pub(crate) const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;
const PAGE_WORDS: usize = PAGE_BYTES / WORD_BYTES;
const ZERO_PAGE: Page = [0; PAGE_BYTES];

/// Guest memory, and the pages written since the last save.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    mapping: Mapping,
    written: Mutex<BTreeSet<usize>>,
    /// The connection to the page server, which stays open as a real VMM's does.
    _server: Option<UnixStream>,
}

impl GuestMemory {
    pub(crate) fn zeroed(mib: usize) -> io::Result<Self> {
        Ok(Self::new(Mapping::anonymous(mib << 20)?, None))
    }

    pub(crate) fn from_file(file: &File, mib: usize) -> io::Result<Self> {
        Ok(Self::new(Mapping::private(file, mib << 20)?, None))
    }

    /// Memory whose pages come from a page server: the server gets the address range, and the userfaultfd by
    /// which it installs the pages.
    pub(crate) fn from_server(socket: &Path, mib: usize, version: &str) -> io::Result<Self> {
        let mapping = Mapping::anonymous(mib << 20)?;
        let userfaultfd = fence::create_userfaultfd(&mapping)?;
        let mut region = json!({
            "base_host_virt_addr": mapping.address(), "size": mib << 20, "offset": 0,
            "page_size_kib": PAGE_BYTES,
        });
        if version::sends_page_size(version) {
            region["page_size"] = PAGE_BYTES.into();
        }
        let message = json!([region]).to_string();
        let stream = UnixStream::connect(socket)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [userfaultfd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&stream, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::empty())?;
        Ok(Self::new(mapping, Some(stream)))
    }

    fn new(mapping: Mapping, server: Option<UnixStream>) -> Self {
        Self { mapping, written: Mutex::default(), _server: server }
    }

    pub(crate) fn read(&self, address: u64) -> u64 {
        self.mapping.words()[address as usize / WORD_BYTES].load(Ordering::Relaxed)
    }

    pub(crate) fn write(&self, address: u64, word: u64) {
        let index = address as usize / WORD_BYTES;
        self.mapping.words()[index].store(word, Ordering::Relaxed);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(index / PAGE_WORDS);
    }

    fn all(&self) -> impl Iterator<Item = (usize, Page)> {
        (0..).map_while(|index| Some((index, self.mapping.page(index)?)))
    }

    /// The digest of all its bytes; touches all its pages. The guest must be paused.
    pub(crate) fn digest(&self) -> u64 {
        let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3);
        let filled = self.all().filter(|(_, page)| *page != ZERO_PAGE);
        filled.fold(0xcbf2_9ce4_8422_2325, |sum, (index, page)| {
            let (words, _) = page.as_chunks::<WORD_BYTES>();
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            words.fold(step(sum, index as u64), step)
        })
    }

    /// Writes a file of its size: all pages that are not zero, or those written since the last save. The
    /// guest must be paused.
    pub(crate) fn save(&self, file: &File, only_written: bool) -> io::Result<()> {
        file.set_len(self.mapping.words().len() as u64 * WORD_BYTES as u64)?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, page) in self.all() {
            let is_selected = if only_written { written.contains(&index) } else { page != ZERO_PAGE };
            if is_selected {
                file.write_all_at(&page, (index * PAGE_BYTES) as u64)?;
            }
        }
        written.clear();
        file.sync_all()
    }
}
