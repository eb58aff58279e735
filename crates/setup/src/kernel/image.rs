//! Converts a kernel file of either kind to the files that are booted.

use std::path::Path;

use super::bzimage::{BzImage, BzImageError};
use super::elf::{ElfError, Vmlinux};
use super::manifest::{Entry, Image};
use crate::files::{FileError, sha256, write_synced};

/// Why a file cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither of the two kinds of file.
    #[error("neither an ELF kernel (vmlinux) nor a bzImage")]
    Unknown,
    /// It looks like a bzImage, but is not a usable one.
    #[error("not a usable bzImage")]
    BzImage(#[from] BzImageError),
    /// An ELF file that is not a kernel for guests.
    #[error("not a usable vmlinux")]
    Elf(#[from] ElfError),
    /// An ELF kernel that no supported VMM can enter.
    #[error("vmlinux {0} has no PVH entry note: build it with CONFIG_PVH=y, or give its bzImage")]
    NoPvh(String),
    /// The copy could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files that were written into a kernel's directory.
#[derive(Debug)]
pub(super) struct WrittenKernel {
    pub(super) release: String,
    pub(super) image: Image,
    pub(super) fallback: Option<Image>,
}

/// Writes the bootable files of a kernel. A vmlinux with a PVH entry is written
/// as it is. Of a bzImage, the vmlinux inside is written, with the bzImage as
/// the fallback; if that vmlinux cannot be entered directly, only the bzImage.
pub(super) fn write(bytes: &[u8], dir: &Path) -> Result<WrittenKernel, ImageError> {
    if bytes.starts_with(b"\x7fELF") {
        return write_vmlinux(bytes, dir);
    }
    let bzimage = BzImage::parse(bytes).map_err(|error| match error {
        BzImageError::NoHeader => ImageError::Unknown,
        other => other.into(),
    })?;
    write_bzimage(&bzimage, bytes, dir)
}

fn write_vmlinux(bytes: &[u8], dir: &Path) -> Result<WrittenKernel, ImageError> {
    let vmlinux = Vmlinux::parse(bytes)?;
    if !vmlinux.has_pvh {
        return Err(ImageError::NoPvh(vmlinux.release));
    }
    let image = write_image(dir, "vmlinux", Entry::Pvh, bytes)?;
    Ok(WrittenKernel { release: vmlinux.release, image, fallback: None })
}

fn write_bzimage(bzimage: &BzImage<'_>, bytes: &[u8], dir: &Path) -> Result<WrittenKernel, ImageError> {
    let vmlinux = bzimage.vmlinux();
    let written = vmlinux.map_err(ImageError::from).and_then(|vmlinux| write_vmlinux(&vmlinux, dir));
    let image = write_image(dir, "bzImage", Entry::BzImage, bytes)?;
    match (written, bzimage.release()) {
        (Ok(written), _) => Ok(WrittenKernel { fallback: Some(image), ..written }),
        (Err(ImageError::NoPvh(release)), _) => Ok(WrittenKernel { release, image, fallback: None }),
        (Err(error), Some(release)) if has_unknown_compression(&error) => {
            Ok(WrittenKernel { release, image, fallback: None })
        }
        (Err(error), _) => Err(error),
    }
}

/// A compression that mimeo cannot read does not make the kernel unusable: it unpacks itself.
fn has_unknown_compression(error: &ImageError) -> bool {
    use super::decompress::DecompressError::Unknown;
    matches!(error, ImageError::BzImage(BzImageError::Payload(Unknown { .. })))
}

fn write_image(dir: &Path, file: &str, entry: Entry, bytes: &[u8]) -> Result<Image, FileError> {
    write_synced(&dir.join(file), bytes)?;
    Ok(Image { file: file.to_owned(), entry, sha256: sha256(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_kind_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(b"#!/bin/sh\n", dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "neither an ELF kernel (vmlinux) nor a bzImage");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn another_program_is_not_a_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let busybox = std::fs::read("/bin/true").unwrap();
        assert!(matches!(write(&busybox, dir.path()), Err(ImageError::Elf(ElfError::NotLinux))));
    }
}
