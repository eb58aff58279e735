//! A part of a disk, as readers of partition tables and filesystems take it.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use ext4_view::Ext4Read;

use crate::image::DiskImage;

/// A part of a disk. Clones read the same image.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    image: Rc<RefCell<DiskImage>>,
    start: u64,
    bytes: u64,
    /// For `Read` and `Seek`.
    position: u64,
}

impl Window {
    /// The whole disk.
    pub(crate) fn whole(image: Rc<RefCell<DiskImage>>) -> Self {
        let bytes = image.borrow().bytes();
        Self { image, start: 0, bytes, position: 0 }
    }

    /// A part of this part. It ends at the latest where this one ends.
    pub(crate) fn part(&self, start: u64, bytes: u64) -> Self {
        let start = start.min(self.bytes);
        let bytes = bytes.min(self.bytes - start);
        Self { image: self.image.clone(), start: self.start + start, bytes, position: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills the buffer from `offset`.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.image.borrow_mut().read_at(buffer, self.start + offset).map_err(io::Error::other)
    }

    /// The bytes at `offset`; `None` if they are beyond the end or cannot be read.
    pub(crate) fn bytes_at<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_at(offset, &mut bytes).ok().map(|()| bytes)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.saturating_sub(self.position).min(buffer.len() as u64) as usize;
        self.read_at(self.position, &mut buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Ext4Read for Window {
    fn read(&mut self, start: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.read_at(start, buffer)?)
    }
}
