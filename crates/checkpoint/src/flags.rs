//! Flags of mappings that `madvise` and `mmap` set besides access rights, as `VmFlags` in /proc/PID/smaps
//! shows them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::error::{CheckpointError, unsupported};
use crate::maps::{self, Area, MappingKind};
use crate::procfs::ProcFile;

/// The flags of a mapping that a restore sets again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MappingFlags {
    /// Arguments of `madvise`.
    pub(crate) advice: Vec<i32>,
    /// The kernel may drop the pages at any time. glibc 2.41 keeps its random number state in such a mapping.
    pub(crate) droppable: bool,
    /// A forked process finds zeros there (MADV_WIPEONFORK): used for random number state, too.
    pub(crate) wiped_on_fork: bool,
    /// The mapping grows down, as the main thread's stack does.
    pub(crate) grows_down: bool,
}

/// Flags that follow from the rights and the kind of a mapping, and bookkeeping of the kernel. `gu`: it may
/// have guard pages, which are detected by pagemap.
const IMPLIED: [&str; 12] = ["rd", "wr", "ex", "sh", "mr", "mw", "me", "ms", "nr", "ac", "sd", "gu"];

/// Flags that `madvise` sets.
const ADVICE: [(&str, i32); 8] = [
    ("sr", libc::MADV_SEQUENTIAL),
    ("rr", libc::MADV_RANDOM),
    ("dc", libc::MADV_DONTFORK),
    ("dd", libc::MADV_DONTDUMP),
    ("hg", libc::MADV_HUGEPAGE),
    ("nh", libc::MADV_NOHUGEPAGE),
    ("mg", libc::MADV_MERGEABLE),
    ("wf", libc::MADV_WIPEONFORK),
];

impl MappingFlags {
    /// Parses the flags of a line. The error lists flags that cannot be restored: locked or huge pages,
    /// userfaultfd, shadow stacks, seals, and flags of newer kernels.
    fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut unknown = String::new();
        for flag in text.split_whitespace().filter(|flag| !IMPLIED.contains(flag)) {
            match ADVICE.iter().find(|(known, _)| *known == flag) {
                Some((_, advice)) => flags.advice.push(*advice),
                None if flag == "dp" => flags.droppable = true,
                None if flag == "gd" => flags.grows_down = true,
                None => write!(unknown, " {flag}").unwrap_or_default(),
            }
        }
        flags.wiped_on_fork = flags.advice.contains(&libc::MADV_WIPEONFORK);
        if flags.droppable {
            // MAP_DROPPABLE sets all advice that such a mapping may have.
            flags.advice.clear();
        }
        if unknown.is_empty() { Ok(flags) } else { Err(unknown) }
    }

    /// Whether a restored process must find zeros there: the content must not repeat in another process.
    pub(crate) fn is_wiped(&self) -> bool {
        self.droppable || self.wiped_on_fork
    }
}

/// All mappings of a process, by address, with their flags.
pub(crate) fn read_smaps(pid: i32) -> Result<Vec<(Area, MappingFlags)>, CheckpointError> {
    parse_smaps(&ProcFile::read(format!("/proc/{pid}/smaps"))?)
}

fn parse_smaps(smaps: &ProcFile) -> Result<Vec<(Area, MappingFlags)>, CheckpointError> {
    let mut areas = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "VmFlags:" => {
                let area: Area = current.take().ok_or_else(|| smaps.invalid(line))?;
                let flags = parse_flags(&area, line)?;
                areas.push((area, flags));
            }
            "ProtectionKey:" if line.split_whitespace().nth(1) != Some("0") => {
                return Err(unsupported(format!("memory has a protection key: {line}")));
            }
            _ if word.ends_with(':') => {}
            _ if current.is_some() => return Err(smaps.invalid(&format!("no VmFlags before {line}"))),
            _ => current = Some(maps::parse_area(line).ok_or_else(|| smaps.invalid(line))?),
        }
    }
    match current {
        None => Ok(areas),
        Some(area) => Err(smaps.invalid(&format!("no VmFlags of {:x}", area.start))),
    }
}

fn parse_flags(area: &Area, line: &str) -> Result<MappingFlags, CheckpointError> {
    if matches!(area.kind, MappingKind::Kernel(_) | MappingKind::Vsyscall) {
        return Ok(MappingFlags::default());
    }
    let text = line.trim_start_matches("VmFlags:");
    let message =
        |unknown| format!("the mapping at {:x} ({:?}) has the flags{unknown}", area.start, area.kind);
    MappingFlags::parse(text).map_err(|unknown| unsupported(message(unknown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "7f00-8f00 rw-p 00000000 00:00 0 \nSize:   4 kB\n";

    fn parse_text(text: &str) -> Result<Vec<(Area, MappingFlags)>, CheckpointError> {
        parse_smaps(&ProcFile::from_text("/proc/7/smaps", text))
    }

    #[test]
    fn mapping_flags_are_parsed() {
        let areas = parse_text(&format!("{HEADER}VmFlags: rd wr mr mw me dc ac hg \n")).expect("areas");
        assert_eq!(areas[0].1.advice, [libc::MADV_DONTFORK, libc::MADV_HUGEPAGE]);
        let areas = parse_text(&format!("{HEADER}VmFlags: rd wr nr wf dd dp\n{HEADER}VmFlags: rd wf gd\n"))
            .expect("areas");
        assert!(areas[0].1.droppable && areas[0].1.is_wiped() && areas[0].1.advice.is_empty());
        assert!(areas[1].1.is_wiped() && !areas[1].1.droppable && areas[1].1.grows_down);
    }

    #[test]
    fn unknown_flags_and_malformed_smaps_are_refused() {
        let error = |text: String| parse_text(&text).expect_err("refused").to_string();
        assert!(error(format!("{HEADER}VmFlags: rd lo ?? \n")).contains("the flags lo ??"));
        assert!(error(format!("{HEADER}ProtectionKey:  1\nVmFlags: rd\n")).contains("protection key"));
        for missing in [HEADER.to_owned(), format!("{HEADER}{HEADER}VmFlags: rd\n"), "VmFlags: rd".to_owned()]
        {
            assert!(matches!(parse_text(&missing), Err(CheckpointError::Parse { .. })), "{missing}");
        }
    }
}
