//! Detects a layer's compression by its first bytes, because media types are not always correct.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::LayerProblem;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zstd's skippable frames, which zstd:chunked may begin with; their magic numbers differ in the low four bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: [u8; 3] = *b"BZh";
const BUFFER: usize = 256 << 10;
/// Bytes that tell the compression.
const HEAD: usize = 6;

/// Compression formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
    Unknown,
}

fn detect(head: &[u8]) -> Compression {
    let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE;
    match head {
        _ if head.starts_with(&GZIP) => Compression::Gzip,
        _ if head.starts_with(&ZSTD) || skippable => Compression::Zstd,
        _ if head.starts_with(&XZ) || head.starts_with(&BZIP2) => Compression::Unknown,
        _ => Compression::Plain,
    }
}

/// A file's compression. Leaves the file at its start.
pub(super) fn of_file(file: &mut File) -> io::Result<Compression> {
    Ok(detect(&head(file)?))
}

/// Returns a reader of the uncompressed bytes. The outer error is the host's, the inner one the layer's.
pub(super) fn decoder(mut file: File) -> io::Result<Result<Box<dyn Read>, LayerProblem>> {
    let compression = of_file(&mut file)?;
    let input = BufReader::with_capacity(BUFFER, file);
    Ok(match compression {
        Compression::Plain => Ok(Box::new(input)),
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Compression::Zstd => Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?)),
        Compression::Unknown => Err(LayerProblem::UnknownCompression),
    })
}

/// Returns a reader of the uncompressed bytes of a tar file, which may be compressed with gzip or zstd.
///
/// # Errors
/// If the beginning cannot be read, or the compression is another one.
pub fn decompress(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let compression = detect(&head);
    let input = BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(input));
    Ok(match compression {
        Compression::Plain => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Compression::Unknown => return Err(io::Error::other(LayerProblem::UnknownCompression)),
    })
}

fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_stream_is_read() {
        use std::io::Write as _;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"content").expect("written");
        for input in [packed.finish().expect("packed"), b"content".to_vec()] {
            let mut text = String::new();
            decompress(io::Cursor::new(input)).expect("known").read_to_string(&mut text).expect("read");
            assert_eq!(text, "content");
        }
        assert!(decompress(&b"BZh91AY"[..]).is_err());
    }

    #[test]
    fn compressions_are_detected_by_magic_number() {
        assert_eq!(detect(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(detect(&[0x28, 0xb5, 0x2f, 0xfd, 0]), Compression::Zstd);
        assert_eq!(detect(&[0x5e, 0x2a, 0x4d, 0x18]), Compression::Zstd);
        assert_eq!(detect(b"BZh9"), Compression::Unknown);
        assert_eq!(detect(b"etc/"), Compression::Plain);
        assert_eq!(detect(b""), Compression::Plain);
    }
}
