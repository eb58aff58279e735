//! The compression formats of kernels, modules and packages, detected by their
//! first bytes, never by a file name.

use std::io::{self, BufReader, Read};

/// No kernel or module is larger: a larger result means damage or a decompression bomb.
const MAX_BYTES: u64 = 1 << 30;
/// Starts a legacy LZ4 frame, as `lz4 -l` in the kernel's build writes it.
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
/// Each of its blocks unpacks to at most this.
const LZ4_BLOCK_BYTES: usize = 8 << 20;

/// Why bytes could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The first bytes belong to no supported format.
    #[error("unknown compression (starts with {start:02x?})")]
    Unknown {
        /// Up to six first bytes.
        start: Vec<u8>,
    },
    /// The format is known, but the content is damaged.
    #[error("damaged {format} data")]
    Damaged {
        /// The format's name.
        format: &'static str,
        /// The decoder's error.
        source: io::Error,
    },
    /// The result is larger than 1 GiB.
    #[error("unpacks to more than {MAX_BYTES} bytes")]
    TooLarge,
}

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Xz,
    Zstd,
    Gzip,
    Lz4Legacy,
}

impl Format {
    pub(super) fn detect(bytes: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Format); 4] = [
            (b"\xfd7zXZ\0", Format::Xz),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\x1f\x8b", Format::Gzip),
            (LZ4_LEGACY, Format::Lz4Legacy),
        ];
        MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4Legacy => "lz4",
        }
    }
}

/// Unpacks one stream. Bytes after its end are ignored: the kernel's build
/// appends the unpacked length there.
pub(super) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, DecompressError> {
    let format = Format::detect(bytes).ok_or_else(|| unknown(bytes))?;
    let unpacked = match format {
        Format::Lz4Legacy => lz4_legacy(&bytes[LZ4_LEGACY.len()..]),
        other => reader(other, bytes).and_then(read_limited),
    };
    let unpacked = unpacked.map_err(|source| DecompressError::Damaged { format: format.name(), source })?;
    if unpacked.len() as u64 > MAX_BYTES { Err(DecompressError::TooLarge) } else { Ok(unpacked) }
}

/// Returns a stream that is unpacked while it is read. Not supported for legacy LZ4.
pub(super) fn reader<'a>(format: Format, from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let from = BufReader::with_capacity(1 << 17, from);
    Ok(match format {
        Format::Xz => Box::new(lzma_rust2::XzReader::new(from, false)),
        Format::Zstd => Box::new(zstd::Decoder::with_buffer(from)?.single_frame()),
        Format::Gzip => Box::new(flate2::bufread::GzDecoder::new(from)),
        Format::Lz4Legacy => return Err(io::ErrorKind::Unsupported.into()),
    })
}

fn unknown(bytes: &[u8]) -> DecompressError {
    DecompressError::Unknown { start: bytes.iter().take(6).copied().collect() }
}

fn read_limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Each block is a 32-bit length and that many bytes. The last word of a
/// kernel's payload is not a block but the unpacked length: no bytes follow it.
fn lz4_legacy(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>().filter(|(_, rest)| !rest.is_empty()) {
        let block = rest.get(..u32::from_le_bytes(*length) as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        unpacked.extend(lz4_flex::block::decompress(block, LZ4_BLOCK_BYTES).map_err(io::Error::other)?);
        if unpacked.len() as u64 > MAX_BYTES {
            break;
        }
        bytes = &rest[block.len()..];
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lz4_payload_ends_before_its_appended_length() {
        let block = lz4_flex::block::compress(b"a kernel, a kernel, a kernel");
        let mut bytes = LZ4_LEGACY.to_vec();
        bytes.extend((block.len() as u32).to_le_bytes());
        bytes.extend(&block);
        bytes.extend(28_u32.to_le_bytes());
        assert_eq!(decompress(&bytes).unwrap(), b"a kernel, a kernel, a kernel");
    }

    #[test]
    fn a_cut_lz4_block_is_damage() {
        let bytes = [LZ4_LEGACY, &100_u32.to_le_bytes(), b"short"].concat();
        assert!(matches!(decompress(&bytes), Err(DecompressError::Damaged { format: "lz4", .. })));
    }

    #[test]
    fn zstd_and_gzip_ignore_what_follows() {
        let mut zstd = zstd::encode_all(&b"module"[..], 1).unwrap();
        zstd.extend(6_u32.to_le_bytes());
        assert_eq!(decompress(&zstd).unwrap(), b"module");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, b"module").unwrap();
        assert_eq!(decompress(&gzip.finish().unwrap()).unwrap(), b"module");
    }

    #[test]
    fn an_unknown_format_shows_its_first_bytes() {
        let error = decompress(b"MZ garbage").unwrap_err().to_string();
        assert_eq!(error, "unknown compression (starts with [4d, 5a, 20, 67, 61, 72])");
    }
}
