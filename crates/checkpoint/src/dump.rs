//! Dumps a process to a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence::{SignalQueue, Tid};
use crate::flags::{self, MappingFlags};
use crate::image::{DumpedArea, IMAGE_FILE, Image, Layout};
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::{Area, MappingKind};
use crate::pages::PageWriter;
use crate::procfs::ProcFile;
use crate::remote_calls::RemoteCalls;
use crate::stop::StoppedProcess;
use crate::threads::{self, below_stack};
use crate::tracee::{self, Memory};
use crate::{descriptors, mutex_owners};

/// What to dump, and how.
#[derive(Debug, Clone, Copy)]
pub struct DumpRequest<'a> {
    /// Descriptors that the caller passes to each restored process, and that are not dumped.
    pub inherited: &'a [i32],
    /// A mapped file whose modified pages the caller saves by itself.
    pub external: Option<&'a Path>,
    /// The directory to write to. It must be empty.
    pub dir: &'a Path,
}

/// Writes a process to a directory, and kills it whether that succeeded or not. `while_stopped` is called while
/// all its threads are stopped. The caller must be the parent of the process, and reaps it like any other
/// child process.
///
/// # Errors
/// When the process has state that cannot be checkpointed, may not be traced, or a file cannot be written.
pub fn checkpoint_process(
    pid: u32,
    request: DumpRequest<'_>,
    while_stopped: impl FnOnce() -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let pid = Tid::try_from(pid).map_err(|_| CheckpointError::Ended)?;
    let mut stopped = StoppedProcess::new(pid);
    let memory = Memory::open(pid)?;
    let mutex_owners =
        stopped.stop_unlocked(|tids| mutex_owners::find_owners(pid, &memory, request.external, tids))?;
    while_stopped().map_err(step("run the caller's hook on the stopped process"))?;
    let mappings = flags::read_smaps(pid)?;
    // Read before system calls are made in the process: they change its stack pointer.
    let layout = layout(pid, 0)?;
    let (pages, files, areas) = write_memory(pid, &memory, request, &mappings, &layout)?;
    let status = ProcFile::read(format!("/proc/{pid}/status"))?;
    let has_filters = has_filters(&status)?;
    let descriptors = descriptors::list_descriptors(pid, request)?;
    // The system calls below write to the process's stack, so they follow the dump of its memory.
    let syscall_address = tracee::syscall_instruction(pid, &memory)?;
    let threads = threads::read_all(stopped.threads(), syscall_address, &memory)?;
    let calls = RemoteCalls { pid, syscall_address, memory: &memory, scratch: below_stack(pid)? };
    calls.refuse_timers()?;
    let layout = Layout { brk: calls.call(libc::SYS_brk, [0; 6])?, ..layout };
    let program = PathBuf::from(format!("/proc/{pid}/exe"));
    let image = Image {
        boot_id: boot_id()?,
        written_by: WRITTEN_BY.to_owned(),
        program: fs::read_link(&program).map_err(file(&program))?,
        pages,
        files,
        areas,
        kernel_areas: mappings.iter().filter_map(|(area, _)| kernel_range(area)).collect(),
        layout,
        auxv: read_auxv(pid)?,
        threads,
        mutex_owners,
        signals: calls.signal_actions(&status)?,
        pending: threads::pending_signals(pid, SignalQueue::Process)?,
        membarrier_registrations: calls.membarrier_registrations()?,
        descriptors,
        has_filters,
    };
    let path = request.dir.join(IMAGE_FILE);
    let text = serde_json::to_vec(&image).map_err(io::Error::from).map_err(file(&path))?;
    fs::write(&path, text).map_err(file(&path))
}

fn write_memory(
    pid: Tid,
    memory: &Memory,
    request: DumpRequest<'_>,
    mappings: &[(Area, MappingFlags)],
    layout: &Layout,
) -> Result<(FileStamp, Vec<MappedFile>, Vec<DumpedArea>), CheckpointError> {
    let mut writer = PageWriter::new(pid, memory, request)?;
    for (area, flags) in mappings {
        writer.add_area(area, flags, layout)?;
    }
    writer.finish()
}

/// Format and version of [`Image`]. An image of another version is refused.
pub(crate) const WRITTEN_BY: &str = concat!("mimeo ", env!("CARGO_PKG_VERSION"), " checkpoint 2");

/// The boot id of the host.
pub(crate) fn boot_id() -> Result<String, CheckpointError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(file(path))?.trim().to_owned())
}

/// Whether seccomp filters apply to the process.
fn has_filters(status: &ProcFile) -> Result<bool, CheckpointError> {
    match status.number("Seccomp", 10)? {
        SECCOMP_MODE_DISABLED => Ok(false),
        SECCOMP_MODE_FILTER => Ok(true),
        mode => Err(unsupported(format!("the process has seccomp mode {mode}"))),
    }
}

const SECCOMP_MODE_DISABLED: u64 = 0;
const SECCOMP_MODE_FILTER: u64 = 2;

pub(crate) fn layout(pid: Tid, brk: u64) -> Result<Layout, CheckpointError> {
    parse_layout(&ProcFile::read(format!("/proc/{pid}/stat"))?, brk)
}

fn parse_layout(stat: &ProcFile, brk: u64) -> Result<Layout, CheckpointError> {
    // The name is in parentheses and may contain any character; the field after it is the third.
    let (_, rest) = stat.text().rsplit_once(") ").ok_or_else(|| stat.invalid(stat.text()))?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let parse = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let field = |field| parse(field).ok_or_else(|| stat.invalid(&format!("field {field} of {rest:?}")));
    Ok(Layout {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
    })
}

fn read_auxv(pid: Tid) -> Result<Vec<u8>, CheckpointError> {
    let path = PathBuf::from(format!("/proc/{pid}/auxv"));
    fs::read(&path).map_err(file(&path))
}

fn kernel_range(area: &Area) -> Option<(String, u64, u64)> {
    match &area.kind {
        MappingKind::Kernel(name) => Some((name.clone(), area.start, area.length())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_file_with_a_missing_field_is_an_error() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = |numbers: &str| ProcFile::from_text("/proc/7/stat", &format!("7 (a) b) S {numbers}\n"));
        let layout = parse_layout(&stat(&numbers.join(" ")), 1).expect("a layout");
        assert_eq!((layout.start_code, layout.start_stack, layout.env_end, layout.brk), (26, 28, 51, 1));
        for damaged in [numbers[..40].join(" "), numbers.join(" ").replace(" 48 ", " -1 ")] {
            let error = parse_layout(&stat(&damaged), 1).expect_err("no layout");
            assert!(
                matches!(&error, CheckpointError::Parse { line, .. } if line.contains("field 4")),
                "{error:?}"
            );
        }
        assert!(parse_layout(&ProcFile::from_text("/proc/7/stat", ""), 1).is_err());
    }

    #[test]
    fn an_unknown_seccomp_mode_is_refused() {
        let has = |line| has_filters(&ProcFile::from_text("/proc/7/status", line));
        assert!(!has("Seccomp:\t0").expect("known") && has("Seccomp:\t2").expect("known"));
        assert!(matches!(has("Seccomp:\t1"), Err(CheckpointError::Unsupported { .. })));
        assert!(matches!(has("Name:\tx"), Err(CheckpointError::Parse { .. })));
    }
}
