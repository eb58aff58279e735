//! One kernel module: its name, its dependencies, its bytes as the guest loads them.

use std::path::Path;

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::decompress::{DecompressError, Format, decompress};

/// The last bytes of a signed module.
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// The kernel's `struct module_signature`, which precedes that; its last
/// four bytes are the signature's length, big-endian.
const SIGNATURE_HEADER_BYTES: usize = 12;

/// The name that the kernel gives a module: file names may have `-` for `_`.
pub(super) fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then(|| stem.replace('-', "_"))
}

/// Unpacks a module that is compressed; returns any other unchanged.
pub(super) fn decompress_module(bytes: Vec<u8>) -> Result<Vec<u8>, DecompressError> {
    if Format::detect(&bytes).is_some() { decompress(&bytes) } else { Ok(bytes) }
}

/// Removes the signature. The guest does not enforce it (an attacker who can
/// change a module here can also change the kernel beside it), and under
/// emulation checking those of ten modules takes some 35 ms.
pub(super) fn without_signature(bytes: &[u8]) -> &[u8] {
    strip_signature(bytes).unwrap_or(bytes)
}

fn strip_signature(bytes: &[u8]) -> Option<&[u8]> {
    let signed = bytes.strip_suffix(SIGNED)?;
    let header = signed.len().checked_sub(SIGNATURE_HEADER_BYTES)?;
    let length = u32::from_be_bytes(*signed.last_chunk()?) as usize;
    signed.get(..header.checked_sub(length)?)
}

/// The modules that must be loaded before this one, from its `.modinfo`.
/// Packages come without `modules.dep`, which is generated at installation.
pub(super) fn dependencies(bytes: &[u8]) -> Result<Vec<String>, object::read::Error> {
    let list = modinfo(bytes)?.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).replace('-', "_");
    Ok(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn modinfo(bytes: &[u8]) -> Result<&[u8], object::read::Error> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    match sections.section_by_name(endian, b".modinfo") {
        Some((_, section)) => section.data(endian, bytes),
        None => Ok(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_uses() {
        assert_eq!(name(Path::new("/m/virtio-rng.ko")).as_deref(), Some("virtio_rng"));
        assert_eq!(name(Path::new("fuse.ko.zst")).as_deref(), Some("fuse"));
        assert_eq!(name(Path::new("fuse.ko.bak")), None);
        assert_eq!(name(Path::new("modules.dep")), None);
    }

    #[test]
    fn a_signature_is_cut_off_whole() {
        let mut signed = b"module".to_vec();
        signed.extend(b"SIGNATURE");
        signed.extend([0; 8]);
        signed.extend(9_u32.to_be_bytes());
        signed.extend(SIGNED);
        assert_eq!(without_signature(&signed), b"module");
    }

    #[test]
    fn an_unsigned_or_inconsistent_module_stays_as_it_is() {
        assert_eq!(without_signature(b"module"), b"module");
        let inconsistent = [&[0xff; 12][..], SIGNED].concat();
        assert_eq!(without_signature(&inconsistent), inconsistent);
    }
}
