//! The file format of the Linux boot protocol: a header, a loader, and the
//! compressed kernel. See the kernel's `Documentation/arch/x86/boot.rst`.

use super::decompress::{DecompressError, decompress};

/// Offsets into the file's first sector and a half.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const RELEASE: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that has the payload's offset and length (2.08).
const MIN_PROTOCOL: u16 = 0x0208;

/// Why a file is not a bzImage, or its kernel cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// No boot header, or a truncated one.
    #[error("no Linux boot header")]
    NoHeader,
    /// Older than Linux 2.6.24.
    #[error("boot protocol {0:#06x} is too old: the compressed kernel cannot be found in it")]
    TooOld(u16),
    /// The header points outside the file.
    #[error("the boot header points outside the file")]
    OutOfBounds,
    /// The payload cannot be decompressed.
    #[error("cannot unpack the kernel inside")]
    Payload(#[from] DecompressError),
}

/// A bzImage whose header was checked.
#[derive(Debug)]
pub(super) struct BzImage<'a> {
    bytes: &'a [u8],
}

impl<'a> BzImage<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BzImageError> {
        if bytes.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
            return Err(BzImageError::NoHeader);
        }
        let protocol = u16_at(bytes, PROTOCOL)?;
        if protocol < MIN_PROTOCOL { Err(BzImageError::TooOld(protocol)) } else { Ok(Self { bytes }) }
    }

    /// The uncompressed kernel: an ELF file.
    pub(super) fn vmlinux(&self) -> Result<Vec<u8>, BzImageError> {
        Ok(decompress(self.payload()?)?)
    }

    /// The release, as `uname -r` will print it.
    pub(super) fn release(&self) -> Option<String> {
        let start = usize::from(u16_at(self.bytes, RELEASE).ok()?) + 0x200;
        let text = self.bytes.get(start..)?.split(|byte| byte.is_ascii_whitespace() || *byte == 0).next()?;
        String::from_utf8(text.to_vec()).ok().filter(|release| !release.is_empty())
    }

    fn payload(&self) -> Result<&'a [u8], BzImageError> {
        let start = self.loader_bytes()? + u32_at(self.bytes, PAYLOAD_OFFSET)?;
        let end = start + u32_at(self.bytes, PAYLOAD_LENGTH)?;
        self.bytes.get(start..end).ok_or(BzImageError::OutOfBounds)
    }

    /// The size of the real-mode part, which the payload's offset does not include.
    fn loader_bytes(&self) -> Result<usize, BzImageError> {
        // 0 means 4, for compatibility with very old loaders.
        let sectors = match self.bytes.get(SETUP_SECTORS).ok_or(BzImageError::OutOfBounds)? {
            0 => 4,
            count => usize::from(*count),
        };
        Ok((sectors + 1) * 512)
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, BzImageError> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(BzImageError::NoHeader)?;
    Ok(u16::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<usize, BzImageError> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(BzImageError::NoHeader)?;
    Ok(u32::from_le_bytes(*field) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(protocol: u16, offset: u32, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[SETUP_SECTORS] = 1;
        bytes[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        bytes[PROTOCOL..PROTOCOL + 2].copy_from_slice(&protocol.to_le_bytes());
        bytes[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&offset.to_le_bytes());
        bytes[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn a_text_file_has_no_header() {
        assert!(matches!(BzImage::parse(&[b'x'; 4096]), Err(BzImageError::NoHeader)));
        assert!(matches!(BzImage::parse(b""), Err(BzImageError::NoHeader)));
    }

    #[test]
    fn an_old_protocol_is_refused() {
        assert!(matches!(BzImage::parse(&with_header(0x0207, 0, 0)), Err(BzImageError::TooOld(0x0207))));
    }

    #[test]
    fn a_payload_beyond_the_end_is_refused() {
        let bytes = with_header(0x020f, u32::MAX, u32::MAX);
        assert!(matches!(BzImage::parse(&bytes).unwrap().vmlinux(), Err(BzImageError::OutOfBounds)));
    }

    #[test]
    fn the_payload_is_found_and_unpacked() {
        let payload = zstd::encode_all(&b"\x7fELF and so on"[..], 1).unwrap();
        let mut bytes = with_header(0x020f, 8, payload.len() as u32);
        bytes.extend([0; 8]);
        bytes.extend(&payload);
        assert_eq!(BzImage::parse(&bytes).unwrap().vmlinux().unwrap(), b"\x7fELF and so on");
    }
}
