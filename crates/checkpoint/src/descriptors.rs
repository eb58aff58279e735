//! Lists the file descriptors of a process, and opens equivalent ones.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FlockOperation, Mode, OFlags, SeekFrom, flock, open, seek};

use crate::dump::DumpRequest;
use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence;
use crate::image::{Descriptor, DescriptorKind, FileLock, LockKind};
use crate::procfs::{self, ProcFile};
use crate::restorer::RestorerBlob;

/// All descriptors of a process.
pub(crate) fn list_descriptors(
    pid: i32,
    request: DumpRequest<'_>,
) -> Result<Vec<Descriptor>, CheckpointError> {
    let mut numbers = procfs::numeric_entries(Path::new(&format!("/proc/{pid}/fd")))?;
    numbers.sort_unstable();
    numbers.into_iter().map(|number| read_descriptor(pid, number, request)).collect()
}

fn read_descriptor(pid: i32, number: i32, request: DumpRequest<'_>) -> Result<Descriptor, CheckpointError> {
    let info = ProcFile::read(format!("/proc/{pid}/fdinfo/{number}"))?;
    let mut flags = flags(&info)?;
    if flags & libc::O_ASYNC != 0 {
        return Err(unsupported(format!("descriptor {number} sends SIGIO")));
    }
    let kind = match request.inherited.contains(&number) {
        true => DescriptorKind::Inherited,
        false => read_kind(&format!("/proc/{pid}/fd/{number}"), number, &info)?,
    };
    if matches!(&kind, DescriptorKind::File { path, .. } if Some(path.as_path()) == request.external) {
        // All restored processes share the file, and map it privately: read access is enough.
        flags = flags & !libc::O_ACCMODE | libc::O_RDONLY;
    }
    Ok(Descriptor { number, flags, kind })
}

fn flags(info: &ProcFile) -> Result<i32, CheckpointError> {
    let flags = info.number("flags", 8)?;
    i32::try_from(flags).map_err(|_| info.invalid(&format!("flags: {flags:o}")))
}

fn read_kind(link: &str, number: i32, info: &ProcFile) -> Result<DescriptorKind, CheckpointError> {
    let target = fs::read_link(link).map_err(file(Path::new(link)))?;
    match target.to_str() {
        Some("anon_inode:[eventfd]") => read_eventfd(info),
        Some("anon_inode:[signalfd]") => Ok(DescriptorKind::Signalfd { mask: info.number("sigmask", 16)? }),
        _ if is_reopenable(Path::new(link), &target)? => read_file(target, number, info),
        _ => Err(unsupported(format!("descriptor {number} is {}", OsString::from(target).display()))),
    }
}

fn read_eventfd(info: &ProcFile) -> Result<DescriptorKind, CheckpointError> {
    let count = info.number("eventfd-count", 16)?;
    let count = u32::try_from(count).map_err(|_| unsupported("the count of an eventfd exceeds 32 bits"))?;
    // Kernels before 6.9 do not show whether it is a semaphore.
    let semaphore = info.lines().any(|line| line.starts_with("eventfd-semaphore"))
        && info.number("eventfd-semaphore", 10)? != 0;
    Ok(DescriptorKind::Eventfd { count, semaphore })
}

/// Whether opening `target` gives an equivalent descriptor: the same file, with no state but its position and
/// locks.
fn is_reopenable(link: &Path, target: &Path) -> Result<bool, CheckpointError> {
    if !target.is_absolute() {
        return Ok(false);
    }
    let opened = fs::metadata(link).map_err(file(link))?;
    let Ok(found) = fs::metadata(target) else { return Ok(false) };
    let is_same = (opened.dev(), opened.ino()) == (found.dev(), found.ino());
    Ok(is_same && (opened.is_file() || opened.file_type().is_block_device() || is_stateless_device(&opened)))
}

/// /dev/null, zero, full, random and urandom: other character devices have a state for each open file.
fn is_stateless_device(found: &Metadata) -> bool {
    const MEMORY_DEVICES: u32 = 1;
    let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
    found.file_type().is_char_device() && major == MEMORY_DEVICES && matches!(minor, 3 | 5 | 7 | 8 | 9)
}

fn read_file(path: PathBuf, number: i32, info: &ProcFile) -> Result<DescriptorKind, CheckpointError> {
    let position = info.number("pos", 10)?;
    let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    let parse = |line| parse_lock(line).ok_or_else(|| info.invalid(line));
    let locks = locks.map(|line| match parse(line)? {
        Some(lock) => Ok(lock),
        None => Err(unsupported(format!("descriptor {number} has an unsupported lock: {}", line.trim()))),
    });
    Ok(DescriptorKind::File { path, position, locks: locks.collect::<Result<_, _>>()? })
}

/// Parses `1: OFDLCK ADVISORY  READ -1 fe:00:42 100 EOF`. `Some(None)` is a lock that belongs to the process,
/// or a lease.
fn parse_lock(line: &str) -> Option<Option<FileLock>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, _, mode, _, _, start, end] = *words else { return None };
    let kind = match kind {
        "OFDLCK" => LockKind::Ofd,
        "FLOCK" => LockKind::Flock,
        "POSIX" | "LEASE" | "DELEG" => return Some(None),
        _ => return None,
    };
    let exclusive = match mode {
        "READ" => false,
        "WRITE" => true,
        _ => return None,
    };
    let start = start.parse().ok()?;
    let end: Option<i64> = if end == "EOF" { None } else { Some(end.parse().ok()?) };
    // A length of 0 reaches to the end of the file, even if the file grows.
    let length = end.map_or(0, |end| end - start + 1);
    Some(Some(FileLock { kind, exclusive, start, length }))
}

/// Opens an equivalent descriptor. None for one that the caller passes.
pub(crate) fn reopen(
    descriptor: &Descriptor,
    relocate: impl Fn(&Path) -> PathBuf,
) -> Result<Option<OwnedFd>, CheckpointError> {
    let flags = descriptor.flags;
    match &descriptor.kind {
        DescriptorKind::Inherited => Ok(None),
        DescriptorKind::File { path, position, locks } => {
            let path = relocate(path);
            let flags = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC;
            let opened = open(&path, flags, Mode::empty()).map_err(io::Error::from).map_err(file(&path))?;
            set_position(&opened, *position).map_err(file(&path))?;
            locks.iter().try_for_each(|lock| set_lock(&opened, lock)).map_err(file(&path))?;
            Ok(Some(opened))
        }
        DescriptorKind::Eventfd { count, semaphore } => {
            let mut flags = EventfdFlags::from_bits_retain((flags & !libc::O_ACCMODE) as u32);
            flags.set(EventfdFlags::SEMAPHORE, *semaphore);
            let created = eventfd(*count, flags | EventfdFlags::CLOEXEC).map_err(io::Error::from);
            created.map(Some).map_err(step("create an eventfd"))
        }
        DescriptorKind::Signalfd { mask } => {
            let created = fence::signalfd(*mask, flags & !libc::O_ACCMODE | libc::O_CLOEXEC);
            created.map(Some).map_err(step("create a signalfd"))
        }
    }
}

fn set_position(opened: &OwnedFd, position: u64) -> io::Result<()> {
    if position != 0 && seek(opened, SeekFrom::Start(position))? != position {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "cannot set the file position"));
    }
    Ok(())
}

/// Both kinds belong to the open file, so every process with the descriptor has the lock.
fn set_lock(opened: &OwnedFd, lock: &FileLock) -> io::Result<()> {
    match lock.kind {
        LockKind::Ofd => fence::lock_range(opened.as_fd(), lock.exclusive, lock.start, lock.length),
        LockKind::Flock if lock.exclusive => Ok(flock(opened, FlockOperation::NonBlockingLockExclusive)?),
        LockKind::Flock => Ok(flock(opened, FlockOperation::NonBlockingLockShared)?),
    }
}

/// Restores what a passed descriptor lacks: the status flags of files that the caller passed, and
/// close-on-exec.
pub(crate) fn set_flags(blob: &mut RestorerBlob, descriptor: &Descriptor) {
    let number = descriptor.number as u64;
    if let DescriptorKind::Inherited = descriptor.kind {
        let flags = (descriptor.flags & SETTABLE_FLAGS) as u64;
        blob.call(libc::SYS_fcntl, &[number, libc::F_SETFL as u64, flags]);
    }
    let closes = descriptor.flags & libc::O_CLOEXEC != 0;
    let flag = if closes { libc::FD_CLOEXEC as u64 } else { 0 };
    blob.call(libc::SYS_fcntl, &[number, libc::F_SETFD as u64, flag]);
}

/// The status flags that `fcntl` can change.
const SETTABLE_FLAGS: i32 = libc::O_APPEND | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lines_are_parsed() {
        let ofd = parse_lock("\t1: OFDLCK ADVISORY  READ -1 fe:00:42 100 101").expect("a lock");
        assert_eq!(ofd, Some(FileLock { kind: LockKind::Ofd, exclusive: false, start: 100, length: 2 }));
        let flock = parse_lock("\t1: FLOCK  ADVISORY  WRITE 7 fe:00:42 0 EOF").expect("a lock");
        assert_eq!(flock, Some(FileLock { kind: LockKind::Flock, exclusive: true, start: 0, length: 0 }));
        assert_eq!(parse_lock("\t1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF"), Some(None));
        for unknown in ["\t1: NEW ADVISORY READ 7 fe:00:42 0 EOF", "\t1: FLOCK ADVISORY READ 7", ""] {
            assert_eq!(parse_lock(unknown), None, "{unknown}");
        }
    }
}
