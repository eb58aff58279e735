//! Reads an uncompressed kernel's architecture and release, and whether it has
//! the note through which a VMM enters it in 32-bit mode (PVH).

use object::Endianness;
use object::elf::{EM_X86_64, FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that carries PVH's entry address.
const PHYS32_ENTRY: u32 = 18;
/// How every kernel's banner starts; the release is the next word.
const BANNER: &[u8] = b"Linux version ";

type Header = FileHeader64<Endianness>;

/// Why an ELF file is not a kernel for guests.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not a valid 64-bit ELF file.
    #[error("not a valid 64-bit ELF file")]
    Invalid(#[from] object::read::Error),
    /// Built for another CPU.
    #[error("built for ELF machine {0}, not for x86-64")]
    OtherMachine(u16),
    /// Any program but a Linux kernel.
    #[error("an ELF file, but without the banner of a Linux kernel")]
    NotLinux,
}

/// A Linux kernel in ELF form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Vmlinux {
    pub(super) release: String,
    pub(super) has_pvh: bool,
}

impl Vmlinux {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let header = Header::parse(bytes)?;
        let endian = header.endian()?;
        let machine = header.e_machine(endian);
        if machine != EM_X86_64 {
            return Err(ElfError::OtherMachine(machine));
        }
        let release = release(bytes).ok_or(ElfError::NotLinux)?;
        Ok(Self { release, has_pvh: has_pvh(header, endian, bytes)? })
    }
}

fn has_pvh(header: &Header, endian: Endianness, bytes: &[u8]) -> Result<bool, ElfError> {
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == PT_NOTE && has_entry_note(segment, endian, bytes)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_entry_note(
    segment: &object::elf::ProgramHeader64<Endianness>,
    endian: Endianness,
    bytes: &[u8],
) -> Result<bool, ElfError> {
    let Some(mut notes) = segment.notes(endian, bytes)? else { return Ok(false) };
    while let Some(note) = notes.next()? {
        if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
            return Ok(true);
        }
    }
    Ok(false)
}

fn release(bytes: &[u8]) -> Option<String> {
    // The banner also occurs as a format string, `Linux version %s`.
    let mut starts = memchr::memmem::find_iter(bytes, BANNER).map(|at| &bytes[at + BANNER.len()..]);
    let word = starts.find(|rest| rest.first().is_some_and(u8::is_ascii_digit))?;
    let word = word.split(|byte| byte.is_ascii_whitespace()).next()?;
    String::from_utf8(word.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_other_than_a_kernel_is_refused() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let cut = program[..4096].to_vec();
        assert!(Vmlinux::parse(&cut).is_err());
        assert!(matches!(Vmlinux::parse(b"not ELF"), Err(ElfError::Invalid(_))));
    }

    #[test]
    fn the_release_is_the_first_real_banner() {
        let bytes = b"..Linux version %s (%s)..Linux version 6.1.0-56-cloud-amd64 (gcc)";
        assert_eq!(release(bytes).as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(release(b"nothing"), None);
    }
}
