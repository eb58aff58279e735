//! Descriptors of a process: what they are, and others like them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, open};

use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence;
use crate::image::Descriptor;

/// All that a process has, but for those that the caller gives anew.
pub(crate) fn list(pid: i32, given: &[i32]) -> Result<Vec<(i32, Descriptor)>, CheckpointError> {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(file(&dir))? {
        let path = entry.map_err(file(&dir))?.path();
        let Some(number) = number(&path) else { continue };
        let what = if given.contains(&number) { Descriptor::Given } else { describe(pid, number, &path)? };
        found.push((number, what));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

fn number(path: &Path) -> Option<i32> {
    path.file_name()?.to_str()?.parse().ok()
}

fn describe(pid: i32, number: i32, link: &Path) -> Result<Descriptor, CheckpointError> {
    let target = fs::read_link(link).map_err(file(link))?;
    let info = PathBuf::from(format!("/proc/{pid}/fdinfo/{number}"));
    let info = fs::read_to_string(&info).map_err(file(&info))?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = field("flags:").and_then(|text| i32::from_str_radix(text, 8).ok()).unwrap_or_default();
    let is_here = fs::metadata(&target).is_ok_and(|found| !found.is_dir());
    match target.to_str() {
        Some("anon_inode:[eventfd]") => {
            let count = field("eventfd-count:").and_then(|text| u32::from_str_radix(text, 16).ok());
            Ok(Descriptor::Events { count: count.unwrap_or_default(), flags })
        }
        Some("anon_inode:[signalfd]") => {
            let mask = field("sigmask:").and_then(|text| u64::from_str_radix(text, 16).ok());
            Ok(Descriptor::Signals { mask: mask.unwrap_or_default(), flags })
        }
        _ if target.is_absolute() && is_here => Ok(Descriptor::File { path: target, flags }),
        _ => {
            let target = OsString::from(target);
            Err(unsupported(format!("descriptor {number} is {}", target.display())))
        }
    }
}

/// One like it; none for one that the caller gives.
pub(crate) fn again(
    what: &Descriptor,
    place: impl Fn(&Path) -> PathBuf,
) -> Result<Option<OwnedFd>, CheckpointError> {
    match what {
        Descriptor::Given => Ok(None),
        Descriptor::File { path, flags } => {
            let path = place(path);
            let flags = OFlags::from_bits_retain(*flags as u32) | OFlags::CLOEXEC;
            let opened = open(&path, flags, Mode::empty()).map_err(io::Error::from).map_err(file(&path))?;
            Ok(Some(opened))
        }
        Descriptor::Events { count, flags } => {
            let flags = EventfdFlags::from_bits_retain(*flags as u32 & !(libc::O_ACCMODE as u32));
            let made = eventfd(*count, flags).map_err(io::Error::from);
            made.map(Some).map_err(step("make a counter of events"))
        }
        Descriptor::Signals { mask, flags } => {
            let made = fence::signalfd(*mask, flags & !libc::O_ACCMODE);
            made.map(Some).map_err(step("make a descriptor of signals"))
        }
    }
}
