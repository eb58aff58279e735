//! Writes an image's bytes to a file and leaves zero blocks as holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mkext4::RegionSink;

const BLOCK: usize = 4096;

/// The file must be new and have the image's length: ranges that are not written read as zeros.
#[derive(Debug)]
pub(crate) struct SparseSink<'a> {
    file: &'a File,
}

impl<'a> SparseSink<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file }
    }
}

impl RegionSink for SparseSink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let zeros = leading_blocks(&bytes[at..], true);
            let data = leading_blocks(&bytes[at + zeros..], false);
            let from = at + zeros;
            self.file.write_all_at(&bytes[from..from + data], offset + from as u64)?;
            at = from + data;
        }
        Ok(())
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Length of the leading blocks that are all zeros (`zeros`), or not.
fn leading_blocks(bytes: &[u8], zeros: bool) -> usize {
    bytes.chunks(BLOCK).take_while(|block| block.iter().all(|b| *b == 0) == zeros).map(<[u8]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_blocks() {
        let mut bytes = vec![0; 3 * BLOCK + 5];
        bytes[BLOCK] = 1;
        assert_eq!(leading_blocks(&bytes, true), BLOCK);
        assert_eq!(leading_blocks(&bytes[BLOCK..], false), BLOCK);
        assert_eq!(leading_blocks(&bytes[2 * BLOCK..], true), BLOCK + 5);
        assert_eq!(leading_blocks(&[], true), 0);
    }
}
