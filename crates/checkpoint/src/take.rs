//! Keeps a process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, file, step, unsupported};
use crate::fence::{self, Tid};
use crate::flags::{self, MappingFlags};
use crate::image::{From, IMAGE, Image, KeptArea, Layout, PAGES, Thread};
use crate::mapped::{FileStamp, MappedFile};
use crate::maps::{Area, Of};
use crate::procfs::{self, ProcFile};
use crate::tracee::{self, Memory, call, stopped};
use crate::{PAGE, descriptors, owners};

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

/// Bytes that are looked at together.
const PIECE: usize = 1 << 20;
/// A piece of memory that grows finds zeros behind it, not what was behind another.
const GAP: u64 = 64 << 20;

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
    let mut stopped = Stopped { pid, threads: Vec::new(), traced: Vec::new(), gone: Vec::new() };
    stopped.stop()?;
    meanwhile().map_err(step("keep what the caller keeps of the process"))?;
    let threads = &stopped.threads;
    let memory = Memory::of(pid)?;
    let areas = flags::areas(pid)?;
    let descriptors = descriptors::list(pid, wanted)?;
    let tids: Vec<Tid> = threads.iter().map(|(tid, _)| *tid).collect();
    // Before memory is read: where the first thread's stack lies.
    let own = layout(pid, 0)?;
    let mut keeping = Keeping::new(pid, &memory, wanted, &tids)?;
    for (area, flags) in &areas {
        keeping.area(area, flags, &own)?;
    }
    let owners = keeping.owners()?;
    let Keeping { pages, files, kept, end, .. } = keeping;
    let pages_path = wanted.dir.join(PAGES);
    pages.set_len(end + GAP).map_err(file(&pages_path))?;
    let pages = FileStamp::of(&pages.metadata().map_err(file(&pages_path))?);
    let status = ProcFile::read(format!("/proc/{pid}/status"))?;
    let has_filters = has_filters(&status)?;
    // From here on the stack is written to, which has been kept.
    let at = tracee::syscall_instruction(pid, &memory)?;
    let layout = layout(pid, call(pid, at, libc::SYS_brk, [0; 6])?)?;
    let signals = signals(pid, at, &memory, &status)?;
    let threads = threads.iter().map(|(tid, thread)| with_id(*tid, thread.clone(), at, &memory));
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
        threads: threads.collect::<Result<_, _>>()?,
        owners,
        signals,
        descriptors,
        has_filters,
    };
    let path = wanted.dir.join(IMAGE);
    let text = serde_json::to_vec(&image).map_err(io::Error::from).map_err(file(&path))?;
    fs::write(&path, text).map_err(file(&path))
}

/// What is kept is read by no other version.
pub(crate) const WRITTEN_BY: &str = concat!("mimeo ", env!("CARGO_PKG_VERSION"), " checkpoint 2");

/// The start of the host.
pub(crate) fn boot_id() -> Result<String, CheckpointError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(file(path))?.trim().to_owned())
}

/// A process whose threads stand still, the process's own first. Its drop ends it.
struct Stopped {
    pid: Tid,
    threads: Vec<(Tid, Thread)>,
    /// All that are traced, whether their state is known or not.
    traced: Vec<Tid>,
    /// Those that ended before they stood still.
    gone: Vec<Tid>,
}

impl Stopped {
    fn stop(&mut self) -> Result<(), CheckpointError> {
        // A thread may start another until it stands still itself.
        loop {
            let is_known =
                |tid: &Tid| self.gone.contains(tid) || self.threads.iter().any(|(known, _)| known == tid);
            let new: Vec<Tid> = tids(self.pid)?.into_iter().filter(|tid| !is_known(tid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for tid in new {
                match self.stop_one(tid) {
                    // A thread may end at any time; the process's own is the process.
                    Err(CheckpointError::Ended) if tid != self.pid => self.gone.push(tid),
                    result => result?,
                }
            }
        }
    }
}

impl Stopped {
    fn stop_one(&mut self, tid: Tid) -> Result<(), CheckpointError> {
        match fence::seize(tid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(CheckpointError::Ended),
            result => result.map_err(step("trace the process"))?,
        }
        self.traced.push(tid);
        fence::interrupt(tid).map_err(step("stop the process"))?;
        // What it stops for before is a signal on its way, which it is to have.
        loop {
            match stopped(tid)? {
                (_, PTRACE_EVENT_STOP) => break,
                (signal, 0) => fence::go_on_with(tid, signal).map_err(step("let the process go on"))?,
                _ => fence::go_on(tid).map_err(step("let the process go on"))?,
            }
        }
        self.threads.push((tid, thread(tid).map_err(step("read a thread's state"))?));
        Ok(())
    }
}

/// What ptrace says of a stop that it was asked for; libc has no name for it.
const PTRACE_EVENT_STOP: i32 = 128;

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            // One that has ended already is what is wanted.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        // Its parent learns of its end when all threads have been seen to end by
        // who traces them; the process's own is the parent's to see.
        for tid in self.traced.iter().filter(|tid| **tid != self.pid) {
            while matches!(fence::wait(*tid), Ok(fence::Waited::Stopped { .. })) {}
        }
    }
}

fn tids(pid: Tid) -> Result<Vec<Tid>, CheckpointError> {
    let mut tids = procfs::numbers(Path::new(&format!("/proc/{pid}/task")))?;
    tids.sort_by_key(|tid| (*tid != pid, *tid));
    Ok(tids)
}

fn thread(tid: Tid) -> io::Result<Thread> {
    Ok(Thread {
        registers: fence::registers(tid)?,
        xstate: fence::xstate(tid)?,
        signal_mask: fence::signal_mask(tid)?,
        id_at: 0,
        robust_list: fence::robust_list(tid)?,
        rseq: fence::rseq(tid)?,
    })
}

/// Asks the kernel where it writes a thread's id; only the thread itself may.
fn with_id(tid: Tid, thread: Thread, at: u64, memory: &Memory) -> Result<Thread, CheckpointError> {
    let scratch = below_stack(&thread);
    call(tid, at, libc::SYS_prctl, [PR_GET_TID_ADDRESS, scratch, 0, 0, 0, 0])?;
    Ok(Thread { id_at: memory.word(scratch)?, ..thread })
}

const PR_GET_TID_ADDRESS: u64 = 40;

/// Where nothing of the thread's is: below its stack, and what it may use below that.
fn below_stack(thread: &Thread) -> u64 {
    (thread.registers.rsp - 512) & !63
}

fn signals(
    pid: Tid,
    at: u64,
    memory: &Memory,
    status: &ProcFile,
) -> Result<Vec<(u32, [u64; 4])>, CheckpointError> {
    let scratch = (fence::registers(pid).map_err(step("read registers"))?.rsp - 512) & !63;
    let set = status.number("SigCgt", 16)? | status.number("SigIgn", 16)?;
    let mut signals = Vec::new();
    for signal in (1..=64).filter(|signal| set & (1 << (signal - 1)) != 0) {
        call(pid, at, libc::SYS_rt_sigaction, [u64::from(signal), 0, scratch, 8, 0, 0])?;
        let mut action = [0; 4];
        for (index, word) in action.iter_mut().enumerate() {
            *word = memory.word(scratch + 8 * index as u64)?;
        }
        signals.push((signal, action));
    }
    Ok(signals)
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

/// Memory on its way to the file.
struct Keeping<'a> {
    pid: Tid,
    memory: &'a Memory,
    apart: Option<&'a Path>,
    pages: File,
    path: PathBuf,
    pagemap: File,
    files: Vec<MappedFile>,
    /// The index in `files` of what maps shows as this path and inode.
    looked_at: HashMap<(PathBuf, (String, u64)), usize>,
    kept: Vec<KeptArea>,
    tids: &'a [Tid],
    /// Words that may be the holders of locks.
    candidates: Vec<u64>,
    /// Of what is written.
    end: u64,
}

impl<'a> Keeping<'a> {
    fn new(
        pid: Tid,
        memory: &'a Memory,
        wanted: Wanted<'a>,
        tids: &'a [Tid],
    ) -> Result<Self, CheckpointError> {
        let path = wanted.dir.join(PAGES);
        let pages = File::create_new(&path).map_err(file(&path))?;
        let pagemap = PathBuf::from(format!("/proc/{pid}/pagemap"));
        let pagemap = File::open(&pagemap).map_err(file(&pagemap))?;
        Ok(Self {
            pid,
            memory,
            apart: wanted.apart,
            pages,
            path,
            pagemap,
            files: Vec::new(),
            looked_at: HashMap::new(),
            kept: Vec::new(),
            tids,
            candidates: Vec::new(),
            end: 0,
        })
    }

    fn area(&mut self, area: &Area, flags: &MappingFlags, own: &Layout) -> Result<(), CheckpointError> {
        let holds = |address| (area.start..area.end).contains(&address);
        // A process that was restored has two such stacks: the one that it goes on with, and the one of its start.
        if flags.grows_down && !holds(own.start_stack) && !holds(own.arg_start) {
            return Err(unsupported(format!("its mapping at {:x} grows down", area.start)));
        }
        let from = match &area.of {
            Of::Kernel(_) | Of::Vsyscall => return Ok(()),
            _ if area.shared => {
                let (pid, of) = (self.pid, &area.of);
                return Err(unsupported(format!("process {pid} shares memory with others: {of:?}")));
            }
            Of::Nothing if flags.is_wiped() => From::Nothing,
            Of::Nothing => self.nothing(area)?,
            Of::File(path) if self.apart == Some(path) => From::Apart { offset: area.offset },
            Of::File(path) => self.file(area, path)?,
        };
        let from = match from {
            From::Kept { offset } if holds(own.start_stack) => From::Stack { offset },
            from => from,
        };
        let (start, length) = (area.start, area.length());
        self.kept.push(KeptArea { start, length, rights: area.rights, flags: flags.clone(), from });
        Ok(())
    }

    fn nothing(&mut self, area: &Area) -> Result<From, CheckpointError> {
        let own = self.own_pages(area)?;
        if own.is_empty() { Ok(From::Nothing) } else { self.keep(area, &own) }
    }

    fn file(&mut self, area: &Area, path: &Path) -> Result<From, CheckpointError> {
        if !self.own_pages(area)?.is_empty() {
            return self.keep(area, &[(area.start, area.end)]);
        }
        let index = self.index_of(area, path)?;
        Ok(From::File { index, offset: area.offset })
    }

    /// Which of the mapped files an area's is.
    fn index_of(&mut self, area: &Area, path: &Path) -> Result<usize, CheckpointError> {
        let key = (path.to_owned(), area.inode.clone());
        if let Some(index) = self.looked_at.get(&key) {
            return Ok(*index);
        }
        self.files.push(MappedFile::of_area(area, path)?);
        self.looked_at.insert(key, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    /// Runs of pages that are the process's own.
    fn own_pages(&self, area: &Area) -> Result<Vec<(u64, u64)>, CheckpointError> {
        let mut entries = vec![0; (area.length() / PAGE * 8) as usize];
        let read = self.pagemap.read_exact_at(&mut entries, area.start / PAGE * 8);
        read.map_err(step("list the process's pages"))?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (index, entry) in entries.chunks_exact(8).enumerate() {
            let entry = entry.try_into().map(u64::from_ne_bytes).unwrap_or_default();
            let is_own = entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
            let start = area.start + index as u64 * PAGE;
            if entry & GUARD != 0 {
                return Err(unsupported(format!("it has a guard page at {start:x}")));
            }
            match runs.last_mut() {
                _ if !is_own => {}
                Some((_, end)) if *end == start => *end += PAGE,
                _ => runs.push((start, start + PAGE)),
            }
        }
        Ok(runs)
    }

    /// Writes runs of an area to where the area is in the file; zeros are left out.
    fn keep(&mut self, area: &Area, runs: &[(u64, u64)]) -> Result<From, CheckpointError> {
        let offset = self.end;
        let mut buffer = vec![0; PIECE];
        for &(start, end) in runs {
            for address in (start..end).step_by(PIECE) {
                let piece = &mut buffer[..PIECE.min((end - address) as usize)];
                self.memory.read(address, piece)?;
                if area.rights.write {
                    self.candidates.extend(owners::candidates(address, piece, self.tids));
                }
                self.write(offset + address - area.start, piece)?;
            }
        }
        self.end += area.length() + if area.rights.write { GAP } else { 0 };
        Ok(From::Kept { offset })
    }

    /// Locks that are held, and by which thread.
    fn owners(&self) -> Result<Vec<(u64, usize)>, CheckpointError> {
        let holder = |address: &u64| {
            let holder = owners::holder(*address, self.memory, self.tids);
            Ok(holder?.map(|thread| (*address, thread)))
        };
        self.candidates.iter().filter_map(|address| holder(address).transpose()).collect()
    }

    fn write(&self, offset: u64, piece: &[u8]) -> Result<(), CheckpointError> {
        let pages = piece.chunks(PAGE as usize).enumerate();
        let pages = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        for (index, page) in pages {
            let written = self.pages.write_all_at(page, offset + index as u64 * PAGE);
            written.map_err(file(&self.path))?;
        }
        Ok(())
    }
}

/// Bits of /proc/PID/pagemap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Made by `madvise`, which the mapping does not show.
const GUARD: u64 = 1 << 58;

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
