//! Holds the uncompressed contents of a layer's files in an unnamed temporary file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Content, LayerProblem};

/// ext4's block size, the granularity of holes.
pub(crate) const BLOCK: u64 = 4096;
/// A shorter run of zeros is stored, so that an ordinary file stays in one extent.
const CHUNK: usize = 64 << 10;

/// The kernel deletes the file with its last descriptor, so a crash leaves nothing.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    dir: PathBuf,
    end: u64,
}

impl Spool {
    pub(super) fn create(dir: &Path) -> Result<Self, LayerProblem> {
        match tempfile::tempfile_in(dir) {
            Ok(file) => Ok(Self { file, dir: dir.to_owned(), end: 0 }),
            Err(source) => Err(LayerProblem::Io { path: dir.display().to_string(), source }),
        }
    }

    /// Reserves space for a file of `size` bytes, at a block boundary.
    pub(super) fn begin(&mut self, size: u64) -> Draft<'_> {
        let start = self.end;
        self.end += size.next_multiple_of(BLOCK);
        Draft { spool: self, content: Content { start, size, data: Vec::new() } }
    }

    /// Returns a reader of one file's data, without its holes.
    pub(crate) fn reader<'a>(&'a self, content: &'a Content) -> SpoolReader<'a> {
        SpoolReader { file: &self.file, content, range: 0, done: 0 }
    }
}

/// Writes the content of one file.
pub(super) struct Draft<'a> {
    spool: &'a Spool,
    content: Content,
}

impl Draft<'_> {
    /// Largest buffer to pass to [`Self::write`], so that runs of zeros are detected.
    pub(super) const CHUNK: usize = CHUNK;

    /// Writes at an offset within the file. Offsets must ascend.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), LayerProblem> {
        if bytes.iter().all(|b| *b == 0) {
            return Ok(());
        }
        self.spool
            .file
            .write_all_at(bytes, self.content.start + at)
            .map_err(|source| self.io_error(source))?;
        self.add_range(at, at + bytes.len() as u64);
        Ok(())
    }

    fn io_error(&self, source: io::Error) -> LayerProblem {
        LayerProblem::Io { path: self.spool.dir.display().to_string(), source }
    }

    fn add_range(&mut self, from: u64, to: u64) {
        let from = from / BLOCK * BLOCK;
        let to = to.next_multiple_of(BLOCK).min(self.content.size);
        match self.content.data.last_mut() {
            Some((start, length)) if *start + *length >= from => *length = to - *start,
            _ => self.content.data.push((from, to - from)),
        }
    }

    pub(super) fn finish(self) -> Content {
        self.content
    }
}

/// Reads the data ranges of a file in order.
#[derive(Debug)]
pub(crate) struct SpoolReader<'a> {
    file: &'a File,
    content: &'a Content,
    range: usize,
    done: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(&(start, length)) = self.content.data.get(self.range) else { return Ok(0) };
        let chunk = usize::try_from(length - self.done).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_exact_at(&mut buf[..chunk], self.content.start + start + self.done).or_else(
            |error| {
                // The last block's tail may be a hole at the end of the spool.
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    self.read_short(&mut buf[..chunk], start)
                } else {
                    Err(error)
                }
            },
        )?;
        self.advance(chunk as u64, length);
        Ok(chunk)
    }
}

impl SpoolReader<'_> {
    fn read_short(&self, buf: &mut [u8], start: u64) -> io::Result<()> {
        buf.fill(0);
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], self.content.start + start + self.done + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(())
    }

    fn advance(&mut self, n: u64, length: u64) {
        self.done += n;
        if self.done == length {
            self.range += 1;
            self.done = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_become_holes() {
        let mut spool = Spool::create(&std::env::temp_dir()).unwrap();
        let mut draft = spool.begin(3 * 65536 + 10);
        draft.write(0, &[1; 65536]).unwrap();
        draft.write(65536, &[0; 65536]).unwrap();
        draft.write(131_072, &[2; 65536]).unwrap();
        draft.write(196_608, &[3; 10]).unwrap();
        let content = draft.finish();
        assert_eq!(content.data, [(0, 65536), (131_072, 65546)]);
        let mut bytes = Vec::new();
        spool.reader(&content).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 65536 + 65546);
    }

    #[test]
    fn a_short_range_is_widened_to_its_block() {
        let mut spool = Spool::create(&std::env::temp_dir()).unwrap();
        let mut draft = spool.begin(10_000);
        draft.write(5000, b"x").unwrap();
        let content = draft.finish();
        assert_eq!(content.data, [(4096, 4096)]);
        let mut bytes = Vec::new();
        spool.reader(&content).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[904], b'x');
    }
}
