//! How a layer is packed, told by its first bytes: media types are not always true.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::LayerProblem;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zstd's skippable frames, which zstd:chunked may begin with, differ in the low four bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: [u8; 3] = *b"BZh";
const BUFFER: usize = 256 << 10;

/// How bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Unknown,
}

fn packing(head: &[u8]) -> Packing {
    let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE;
    match head {
        _ if head.starts_with(&GZIP) => Packing::Gzip,
        _ if head.starts_with(&ZSTD) || skippable => Packing::Zstd,
        _ if head.starts_with(&XZ) || head.starts_with(&BZIP2) => Packing::Unknown,
        _ => Packing::Plain,
    }
}

/// A reader of the unpacked bytes. The outer error is the host's, the inner one the layer's.
pub(super) fn decoder(mut file: File) -> io::Result<Result<Box<dyn Read>, LayerProblem>> {
    let packing = packing(&head(&mut file)?);
    let input = BufReader::with_capacity(BUFFER, file);
    Ok(match packing {
        Packing::Plain => Ok(Box::new(input)),
        Packing::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Packing::Zstd => Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?)),
        Packing::Unknown => Err(LayerProblem::UnknownCompression),
    })
}

fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(6);
    file.by_ref().take(6).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers_are_told_apart() {
        assert_eq!(packing(&[0x1f, 0x8b, 8]), Packing::Gzip);
        assert_eq!(packing(&[0x28, 0xb5, 0x2f, 0xfd, 0]), Packing::Zstd);
        assert_eq!(packing(&[0x5e, 0x2a, 0x4d, 0x18]), Packing::Zstd);
        assert_eq!(packing(b"BZh9"), Packing::Unknown);
        assert_eq!(packing(b"etc/"), Packing::Plain);
        assert_eq!(packing(b""), Packing::Plain);
    }
}
