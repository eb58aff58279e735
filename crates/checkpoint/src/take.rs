//! Keeps a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence::{Queue, Tid};
use crate::flags::{self, MappingFlags};
use crate::image::{IMAGE, Image, KeptArea, Layout};
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::{Area, Of};
use crate::own_calls::OwnCalls;
use crate::pages::Writer;
use crate::procfs::ProcFile;
use crate::stop::Stopped;
use crate::threads::{self, below_stack};
use crate::tracee::{self, Memory};
use crate::{descriptors, owners};

/// What is to be kept of a process.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Descriptors that its successors are given by the caller.
    pub given: &'a [i32],
    /// A file that is mapped, of which the caller keeps by itself what the process has changed.
    pub apart: Option<&'a Path>,
    /// An empty directory.
    pub dir: &'a Path,
}

/// Writes a process to a directory, and ends it, whether that succeeded or not. `meanwhile` is called while it stands still.
/// The caller must be its parent, and
/// sees its end as any child's.
///
/// # Errors
/// When it has something that cannot be kept, may not be traced, or a file cannot be written.
pub fn take(
    pid: u32,
    wanted: Wanted<'_>,
    meanwhile: impl FnOnce() -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let pid = Tid::try_from(pid).map_err(|_| CheckpointError::Ended)?;
    let mut stopped = Stopped::new(pid);
    let memory = Memory::of(pid)?;
    let owners = stopped.stop_unlocked(|tids| owners::held(pid, &memory, wanted.apart, tids))?;
    meanwhile().map_err(step("keep what the caller keeps of the process"))?;
    let areas = flags::areas(pid)?;
    // Before calls are made in the process, which move its stack.
    let own = layout(pid, 0)?;
    let (pages, files, kept) = write_memory(pid, &memory, wanted, &areas, &own)?;
    let status = ProcFile::read(format!("/proc/{pid}/status"))?;
    let has_filters = has_filters(&status)?;
    let descriptors = descriptors::list(pid, wanted)?;
    // From here on the threads make system calls, which write to their stacks: these have been kept.
    let at = tracee::syscall_instruction(pid, &memory)?;
    let threads = threads::read_all(stopped.threads(), at, &memory)?;
    let own_calls = OwnCalls { pid, at, memory: &memory, scratch: below_stack(pid)? };
    own_calls.refuse_timers()?;
    let layout = Layout { brk: own_calls.call(libc::SYS_brk, [0; 6])?, ..own };
    let program = PathBuf::from(format!("/proc/{pid}/exe"));
    let image = Image {
        boot_id: boot_id()?,
        written_by: WRITTEN_BY.to_owned(),
        program: fs::read_link(&program).map_err(file(&program))?,
        pages,
        files,
        areas: kept,
        kernel_areas: areas.iter().filter_map(|(area, _)| kernel_area(area)).collect(),
        layout,
        auxiliary: auxiliary(pid)?,
        threads,
        owners,
        signals: own_calls.signal_actions(&status)?,
        pending: threads::pending(pid, Queue::Process)?,
        barriers: own_calls.barriers()?,
        descriptors,
        has_filters,
    };
    let path = wanted.dir.join(IMAGE);
    let text = serde_json::to_vec(&image).map_err(io::Error::from).map_err(file(&path))?;
    fs::write(&path, text).map_err(file(&path))
}

fn write_memory(
    pid: Tid,
    memory: &Memory,
    wanted: Wanted<'_>,
    areas: &[(Area, MappingFlags)],
    own: &Layout,
) -> Result<(FileStamp, Vec<MappedFile>, Vec<KeptArea>), CheckpointError> {
    let mut writer = Writer::new(pid, memory, wanted)?;
    for (area, flags) in areas {
        writer.area(area, flags, own)?;
    }
    writer.finish()
}

/// What is kept is read by no other version.
pub(crate) const WRITTEN_BY: &str = concat!("mimeo ", env!("CARGO_PKG_VERSION"), " checkpoint 2");

/// The start of the host.
pub(crate) fn boot_id() -> Result<String, CheckpointError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(file(path))?.trim().to_owned())
}

/// Whether seccomp filters apply to the process.
fn has_filters(status: &ProcFile) -> Result<bool, CheckpointError> {
    match status.number("Seccomp", 10)? {
        SECCOMP_MODE_DISABLED => Ok(false),
        SECCOMP_MODE_FILTER => Ok(true),
        mode => Err(unsupported(format!("it has seccomp mode {mode}"))),
    }
}

const SECCOMP_MODE_DISABLED: u64 = 0;
const SECCOMP_MODE_FILTER: u64 = 2;

pub(crate) fn layout(pid: Tid, brk: u64) -> Result<Layout, CheckpointError> {
    layout_of(&ProcFile::read(format!("/proc/{pid}/stat"))?, brk)
}

fn layout_of(stat: &ProcFile, brk: u64) -> Result<Layout, CheckpointError> {
    // The name, in parentheses, may have anything in it; the field after it is the third.
    let (_, rest) = stat.text().rsplit_once(") ").ok_or_else(|| stat.invalid(stat.text()))?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let parse = |field: usize| words.get(field - 3)?.parse::<u64>().ok();
    let nth = |field| parse(field).ok_or_else(|| stat.invalid(&format!("field {field} of {rest:?}")));
    Ok(Layout {
        start_code: nth(26)?,
        end_code: nth(27)?,
        start_stack: nth(28)?,
        start_data: nth(45)?,
        end_data: nth(46)?,
        start_brk: nth(47)?,
        brk,
        arg_start: nth(48)?,
        arg_end: nth(49)?,
        env_start: nth(50)?,
        env_end: nth(51)?,
    })
}

fn auxiliary(pid: Tid) -> Result<Vec<u8>, CheckpointError> {
    let path = PathBuf::from(format!("/proc/{pid}/auxv"));
    fs::read(&path).map_err(file(&path))
}

fn kernel_area(area: &Area) -> Option<(String, u64, u64)> {
    match &area.of {
        Of::Kernel(name) => Some((name.clone(), area.start, area.length())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_file_without_a_field_is_an_error() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = |numbers: &str| ProcFile::from_text("/proc/7/stat", &format!("7 (a) b) S {numbers}\n"));
        let layout = layout_of(&stat(&numbers.join(" ")), 1).expect("a layout");
        assert_eq!((layout.start_code, layout.start_stack, layout.env_end, layout.brk), (26, 28, 51, 1));
        for damaged in [numbers[..40].join(" "), numbers.join(" ").replace(" 48 ", " -1 ")] {
            let error = layout_of(&stat(&damaged), 1).expect_err("no layout");
            assert!(
                matches!(&error, CheckpointError::Parse { line, .. } if line.contains("field 4")),
                "{error:?}"
            );
        }
        assert!(layout_of(&ProcFile::from_text("/proc/7/stat", ""), 1).is_err());
    }

    #[test]
    fn an_unknown_seccomp_mode_is_refused() {
        let has = |line| has_filters(&ProcFile::from_text("/proc/7/status", line));
        assert!(!has("Seccomp:\t0").expect("known") && has("Seccomp:\t2").expect("known"));
        assert!(matches!(has("Seccomp:\t1"), Err(CheckpointError::Unsupported { .. })));
        assert!(matches!(has("Name:\tx"), Err(CheckpointError::Parse { .. })));
    }
}
