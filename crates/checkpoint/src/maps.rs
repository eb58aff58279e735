//! The mappings of a process, as /proc/PID/maps shows them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;
use crate::procfs::ProcFile;

/// A line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) rights: Rights,
    pub(crate) shared: bool,
    /// The offset in the file.
    pub(crate) offset: u64,
    /// Device and inode of the file as shown here. On some filesystems `stat` shows another device.
    pub(crate) inode: (String, u64),
    pub(crate) kind: MappingKind,
}

/// The access rights of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

impl Rights {
    /// As `mmap` takes them.
    pub(crate) fn protection(self) -> u64 {
        let bit = |has: bool, bit: i32| if has { bit as u64 } else { 0 };
        bit(self.read, libc::PROT_READ)
            | bit(self.write, libc::PROT_WRITE)
            | bit(self.execute, libc::PROT_EXEC)
    }
}

/// What a mapping is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MappingKind {
    /// Anonymous memory.
    Anonymous,
    /// A file. The name of a deleted one ends with ` (deleted)`.
    File(PathBuf),
    /// The vdso or vvar pages, by name.
    Kernel(String),
    /// One page, at the same address in all processes.
    Vsyscall,
}

impl Area {
    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// All mappings of a process, by address.
pub(crate) fn read_maps(pid: i32) -> Result<Vec<Area>, CheckpointError> {
    parse_maps(&ProcFile::read(format!("/proc/{pid}/maps"))?)
}

fn parse_maps(maps: &ProcFile) -> Result<Vec<Area>, CheckpointError> {
    maps.lines().map(|line| parse_area(line).ok_or_else(|| maps.invalid(line))).collect()
}

/// The mapping of the calling process that starts at an address.
pub(crate) fn own_area_at(address: u64) -> Result<Option<Area>, CheckpointError> {
    let areas = parse_maps(&ProcFile::read("/proc/self/maps")?)?;
    Ok(areas.into_iter().find(|area| area.start == address))
}

/// `7f00-7f10 rw-p 00001000 fe:00 42   /a/path`
pub(crate) fn parse_area(line: &str) -> Option<Area> {
    let mut words = line.splitn(6, ' ');
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let (device, inode) = (words.next()?, words.next()?.parse().ok()?);
    let name = words.next().unwrap_or_default().trim_start();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (start, end) = (number(start)?, number(end)?);
    let [read, write, execute, shared] = *rights.as_bytes() else { return None };
    let kind = match name {
        "[vsyscall]" => MappingKind::Vsyscall,
        "[vdso]" => MappingKind::Kernel(name.to_owned()),
        _ if name.starts_with("[vvar") => MappingKind::Kernel(name.to_owned()),
        _ if inode == 0 => MappingKind::Anonymous,
        _ => MappingKind::File(name.into()),
    };
    (start < end).then_some(Area {
        start,
        end,
        rights: Rights { read: read == b'r', write: write == b'w', execute: execute == b'x' },
        shared: shared == b's',
        offset: number(offset)?,
        inode: (device.to_owned(), inode),
        kind,
    })
}

/// The lowest address from [`LOWEST_ADDRESS`] on at which `length` bytes overlap none of these ranges.
pub(crate) fn find_gap(length: u64, used: &[(u64, u64)]) -> u64 {
    let mut used = used.to_vec();
    used.sort_unstable();
    let mut candidate = LOWEST_ADDRESS;
    for (start, end) in used {
        if start >= candidate + length {
            break;
        }
        candidate = candidate.max(end);
    }
    candidate
}

/// Usually nothing is mapped here: programs and libraries are loaded far above.
const LOWEST_ADDRESS: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lines_are_parsed() {
        let kind = |line: &str| parse_area(line).expect("a line").kind;
        assert_eq!(kind("7f00-7f10 rw-p 00000000 00:00 0 "), MappingKind::Anonymous);
        assert_eq!(
            kind("7f00-7f10 rw-p 00000000 00:00 0                          [heap]"),
            MappingKind::Anonymous
        );
        assert_eq!(
            kind("7f00-7f10 r--p 00000000 00:00 0          [vvar_vclock]"),
            MappingKind::Kernel("[vvar_vclock]".into())
        );
        let line = "7f00-8f00 r-xp 00001000 fe:00 42                         /a b/c (deleted)";
        let area = parse_area(line).expect("a line");
        assert_eq!(
            (area.kind, area.offset, area.start, area.end),
            (MappingKind::File("/a b/c (deleted)".into()), 0x1000, 0x7f00, 0x8f00)
        );
        assert!(area.rights.execute && !area.rights.write && !area.shared);
        assert_eq!(area.inode, ("fe:00".to_owned(), 42));
    }

    #[test]
    fn a_malformed_line_is_an_error() {
        let good = "7f00-7f10 rw-p 00000000 fe:00 42 /a";
        for (old, new) in
            [("7f00-", "x-"), ("7f10", "7e00"), ("rw-p", "rw"), ("00000000", "?"), (" 42", " many")]
        {
            let line = good.replacen(old, new, 1);
            let error = parse_maps(&ProcFile::from_text("/proc/7/maps", &format!("{good}\n{line}\n")));
            let error = error.expect_err("not a line");
            assert!(
                matches!(&error, CheckpointError::Parse { line: found, .. } if *found == line),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_gap_overlaps_no_range() {
        assert_eq!(find_gap(16, &[]), LOWEST_ADDRESS);
        assert_eq!(find_gap(16, &[(LOWEST_ADDRESS + 8, LOWEST_ADDRESS + 64), (0, 16)]), LOWEST_ADDRESS + 64);
        assert_eq!(find_gap(8, &[(LOWEST_ADDRESS + 8, LOWEST_ADDRESS + 64)]), LOWEST_ADDRESS);
    }
}
