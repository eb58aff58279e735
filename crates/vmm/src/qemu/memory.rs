//! Locates the guest's memory in the QEMU process.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::{GuestMemory, MemoryPiece};

/// The name that QEMU gives to its memfd for memory.
const MEMFD: &str = "/memfd:memory-backend-memfd";

/// The file that backs a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// QEMU's own memfd.
    Memfd,
    /// The file of a saved machine, mapped privately.
    File(PathBuf),
}

/// Finds the memory by the name of its file.
pub(super) fn find_memory(pid: u32, backing: &Backing) -> io::Result<GuestMemory> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let is_backing = |name: &str| match backing {
        Backing::Memfd => name.starts_with(MEMFD),
        Backing::File(path) => path.to_str() == Some(name.strip_suffix(" (deleted)").unwrap_or(name)),
    };
    let pieces: Vec<_> = maps.lines().filter_map(|line| parse_piece(line, is_backing)).collect();
    if pieces.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no mapping has the name of its file"));
    }
    Ok(GuestMemory { pid, pieces, over_file: *backing != Backing::Memfd })
}

/// Parses `7f00-7f10 rw-p 00001000 fe:00 42   /a/path`.
fn parse_piece(line: &str, is_backing: impl Fn(&str) -> bool) -> Option<MemoryPiece> {
    let mut fields = line.splitn(6, ' ');
    let (range, offset) = (fields.next()?, fields.nth(1)?);
    if !is_backing(fields.nth(2)?.trim_start()) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (address, end) = (number(start)?, number(end)?);
    Some(MemoryPiece { address, offset: number(offset)?, length: end - address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_found_by_the_name_of_its_file() {
        let line = "7f0000001000-7f0000003000 rw-p 00002000 fe:00 1234                       /a b/memory";
        let expected = MemoryPiece { address: 0x7f00_0000_1000, offset: 0x2000, length: 0x2000 };
        assert_eq!(parse_piece(line, |name| name == "/a b/memory"), Some(expected));
        assert_eq!(parse_piece(line, |name| name == "memory"), None);
        assert_eq!(parse_piece("7f00-7f10 rw-p 00000000 00:00 0", |_| true), None);
    }
}
