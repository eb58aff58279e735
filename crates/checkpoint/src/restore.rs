//! A process that begins as one that was kept.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::PAGE;
use crate::descriptors;
use crate::error::{self, CheckpointError, file, foreign, step, unsupported};
use crate::fence::{self, Registers, Tid};
use crate::image::{Descriptor, From, IMAGE, Image, KeptArea, Layout, PAGES, Thread};
use crate::mapped::FileStamp;
use crate::maps::{self, Area, Of};
use crate::script::Script;
use crate::take::{self, WRITTEN_BY, boot_id};
use crate::threads;
use crate::tracee::{self, Memory, run, stopped};

/// A process that was kept.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    image: Image,
}

impl Checkpoint {
    /// Reads what [`take`](crate::take()) wrote, and sees that it belongs here.
    ///
    /// # Errors
    /// [`CheckpointError::Foreign`] when it was kept on another start of the host, by another version, or a program or
    /// library that it runs was replaced; when a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(IMAGE);
        let text = fs::read(&path).map_err(file(&path))?;
        let image: Image = serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
        if image.written_by != WRITTEN_BY {
            return Err(foreign(format!("{} wrote it", image.written_by)));
        }
        if image.boot_id != boot_id()? {
            return Err(foreign("the host was started anew"));
        }
        image.files.iter().try_for_each(|mapped| mapped.check())?;
        Ok(Self { dir: dir.to_owned(), image })
    }

    /// The program that the process ran.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.image.program
    }

    /// Descriptors like those that the process had, with their numbers. Files are opened where `place` says that they
    /// are now.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn descriptors(
        &self,
        place: impl Fn(&Path) -> PathBuf,
    ) -> Result<Vec<(i32, OwnedFd)>, CheckpointError> {
        let reopen = |descriptor: &Descriptor| {
            let reopened = descriptors::reopen(descriptor, &place)?;
            Ok(reopened.map(|opened| (descriptor.number, opened)))
        };
        self.image.descriptors.iter().filter_map(|descriptor| reopen(descriptor).transpose()).collect()
    }

    /// Makes a child that stands still (see [`trace_me`](crate::trace_me)), runs [`Checkpoint::program`] and has all
    /// descriptors the process that was kept; it goes on from where that stood. `apart` is mapped where the file was that was
    /// kept apart. The seccomp programs in `filters`, lists of `struct sock_filter`, are always installed. Call it on the
    /// thread that started the child.
    ///
    /// # Errors
    /// When a step fails, or the process had seccomp filters and `filters` is empty; the child is of no use then, and is
    /// the caller's to end.
    pub fn revive(
        &self,
        child: u32,
        apart: Option<&Path>,
        filters: &[Vec<u64>],
    ) -> Result<(), CheckpointError> {
        if self.image.has_filters && filters.is_empty() {
            return Err(unsupported(
                "the process had seccomp filters, and none are given for the restored one",
            ));
        }
        let pid = Tid::try_from(child).map_err(|_| CheckpointError::Ended)?;
        stopped(pid)?;
        fence::set_options(pid).map_err(step("trace the process"))?;
        // What is sent to it now waits until it is complete; its threads inherit that.
        fence::set_signal_mask(pid, threads::BLOCKED).map_err(step("block the process's signals"))?;
        let mut revival = Revival { image: &self.image, pid, memory: Memory::of(pid)?, started: Vec::new() };
        let revived =
            revival.begin(&self.dir.join(PAGES), apart, filters).and_then(|base| revival.go_on(base));
        if revived.is_err() {
            revival.end();
        }
        revived
    }
}

struct Revival<'a> {
    image: &'a Image,
    pid: Tid,
    memory: Memory,
    /// Its threads but the first.
    started: Vec<Tid>,
}

impl Revival<'_> {
    /// Makes it what was kept, but for the registers; gives the memory that was lent to it.
    fn begin(
        &mut self,
        pages: &Path,
        apart: Option<&Path>,
        filters: &[Vec<u64>],
    ) -> Result<u64, CheckpointError> {
        let areas = maps::areas(self.pid)?;
        let base = self.room(&areas);
        self.lend(base)?;
        let own = take::layout(self.pid, 0)?;
        let mut script = Script::at(base);
        // By chance it may lie where the other had something: then the other's arguments are shown.
        let stack = areas.iter().find(|area| (area.start..area.end).contains(&own.start_stack));
        let stack = stack.filter(|area| self.is_free(area));
        self.clear(&mut script, &areas, stack)?;
        self.map(&mut script, pages, apart)?;
        self.describe(&mut script, if stack.is_some() { &own } else { &self.image.layout });
        self.run(self.pid, &script)?;
        self.copy_stack(pages)?;
        for (thread, tid) in self.image.threads.iter().skip(1).zip(self.started.clone()) {
            let mut script = Script::at(base);
            register(&mut script, thread);
            self.queue(&mut script, tid, thread);
            self.run(tid, &script)?;
        }
        self.own()?;
        let mut script = Script::at(base);
        install_filters(&mut script, filters);
        self.run(self.pid, &script)?;
        Ok(base)
    }

    /// Writes the new ids of threads into the locks that they hold.
    fn own(&self) -> Result<(), CheckpointError> {
        let tids: Vec<&Tid> = std::iter::once(&self.pid).chain(&self.started).collect();
        for (address, thread) in &self.image.owners {
            let tid = tids.get(*thread).ok_or_else(|| foreign("it is damaged"))?;
            self.memory.write(*address, &tid.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Ends it, so that its parent sees that: threads that are traced are seen to end by who traces them.
    fn end(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        for tid in &self.started {
            while matches!(fence::wait(*tid), Ok(fence::Waited::Stopped { .. })) {}
        }
    }

    fn go_on(&self, base: u64) -> Result<(), CheckpointError> {
        self.take_back(base)?;
        let tids = std::iter::once(&self.pid).chain(&self.started);
        for (thread, tid) in self.image.threads.iter().zip(tids.clone()) {
            let set = set(*tid, thread);
            set.map_err(step("set a thread's state"))?;
        }
        for tid in tids {
            fence::detach(*tid).map_err(step("let the process go"))?;
        }
        Ok(())
    }

    /// An address at which there is room for a script, and for the kernel's pages on their way.
    fn room(&self, areas: &[Area]) -> u64 {
        let now = areas.iter().map(|area| (area.start, area.end));
        let then = self.image.areas.iter().map(|area| (area.start, area.start + area.length));
        let kernel = self.image.kernel_areas.iter().map(|(_, start, length)| (*start, start + length));
        maps::gap(2 * Script::LENGTH, &now.chain(then).chain(kernel).collect::<Vec<_>>())
    }

    fn lend(&self, base: u64) -> Result<(), CheckpointError> {
        let at = tracee::syscall_instruction(self.pid, &self.memory)?;
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let arguments = [base, Script::LENGTH, rights as u64, flags as u64, u64::MAX, 0];
        tracee::call(self.pid, at, libc::SYS_mmap, arguments).map(drop)
    }

    fn run(&mut self, tid: Tid, script: &Script) -> Result<(), CheckpointError> {
        self.memory.write(script.code(), &script.to_bytes()?)?;
        run(tid, &self.memory, script, &mut self.started)
    }

    /// Takes away what the child has mapped, and puts the kernel's pages where they were.
    /// Its own stack stays, for its arguments and environment, which the process list shows.
    fn clear(
        &self,
        script: &mut Script,
        areas: &[Area],
        stack: Option<&Area>,
    ) -> Result<(), CheckpointError> {
        let mut kernel = Vec::new();
        for area in areas {
            match &area.of {
                Of::Kernel(name) => kernel.push((name.clone(), area.start, area.length())),
                Of::Vsyscall => {}
                _ if Some(area) == stack => {}
                _ => script.call(libc::SYS_munmap, &[area.start, area.length()]),
            }
        }
        let alike =
            |(now, then): (&(String, u64, u64), &(String, u64, u64))| now.0 == then.0 && now.2 == then.2;
        let then = &self.image.kernel_areas;
        if kernel.len() != then.len() || !kernel.iter().zip(then).all(alike) {
            return Err(foreign("the kernel's pages are others"));
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let mut away = script.code() + Script::LENGTH;
        let mut moves = Vec::new();
        for ((_, from, length), (_, to, _)) in kernel.iter().zip(then) {
            script.call(libc::SYS_mremap, &[*from, *length, *length, flags, away]);
            moves.push([away, *length, *length, flags, *to]);
            away += length;
        }
        moves.iter().for_each(|again| script.call(libc::SYS_mremap, again));
        Ok(())
    }

    fn is_free(&self, area: &Area) -> bool {
        let meets = |start: u64, length: u64| start < area.end && area.start < start + length;
        !self.image.areas.iter().any(|kept| meets(kept.start, kept.length))
            && !self.image.kernel_areas.iter().any(|(_, start, length)| meets(*start, *length))
    }

    fn map(&self, script: &mut Script, pages: &Path, apart: Option<&Path>) -> Result<(), CheckpointError> {
        let free = self.free_descriptor();
        let of = |wanted: fn(&From) -> bool| self.image.areas.iter().filter(move |area| wanted(&area.from));
        for area in of(|from| matches!(from, From::Nothing)) {
            map(script, area, None);
        }
        for area in of(|from| matches!(from, From::Stack { .. })) {
            map(script, area, None);
        }
        let kept = of(|from| matches!(from, From::Kept { .. }));
        map_file(script, free, (pages, Some(self.image.pages)), kept);
        let mut files: Vec<Vec<&KeptArea>> = vec![Vec::new(); self.image.files.len()];
        for area in &self.image.areas {
            if let From::File { index, .. } = &area.from {
                files.get_mut(*index).ok_or_else(|| foreign("it is damaged"))?.push(area);
            }
        }
        for (mapped, areas) in self.image.files.iter().zip(files) {
            map_file(script, free, (&mapped.path, Some(mapped.stamp)), areas);
        }
        let mut apart_areas = of(|from| matches!(from, From::Apart { .. })).peekable();
        match apart {
            Some(path) => map_file(script, free, (path, None), apart_areas),
            None if apart_areas.peek().is_none() => {}
            None => return Err(unsupported("a file that was kept apart is missing")),
        }
        Ok(())
    }

    /// Copies the first thread's stack to where it was.
    fn copy_stack(&self, pages: &Path) -> Result<(), CheckpointError> {
        let file = fs::File::open(pages).map_err(error::file(pages))?;
        for area in &self.image.areas {
            let From::Stack { offset } = area.from else { continue };
            let mut bytes = vec![0; area.length as usize];
            file.read_exact_at(&mut bytes, offset).map_err(error::file(pages))?;
            let written = bytes.chunks(PAGE as usize).zip((area.start..).step_by(PAGE as usize));
            for (page, address) in written.filter(|(page, _)| page.iter().any(|byte| *byte != 0)) {
                self.memory.write(address, page)?;
            }
        }
        Ok(())
    }

    /// The lowest number that is free: what is opened gets it.
    fn free_descriptor(&self) -> u64 {
        let taken: Vec<i32> = self.image.descriptors.iter().map(|descriptor| descriptor.number).collect();
        (0..).find(|number| !taken.contains(number)).unwrap_or_default() as u64
    }

    /// What the kernel knows of a process beside its memory; and its threads.
    fn describe(&self, script: &mut Script, own: &Layout) {
        let layout = &self.image.layout;
        let auxiliary = script.bytes(&self.image.auxiliary);
        let map = script.words(&[
            layout.start_code,
            layout.end_code,
            layout.start_data,
            layout.end_data,
            layout.start_brk,
            layout.brk,
            layout.start_stack,
            own.arg_start,
            own.arg_end,
            own.env_start,
            own.env_end,
            auxiliary,
            // How long that is, and no other program: two halves of a word.
            self.image.auxiliary.len() as u64 | u64::from(u32::MAX) << 32,
        ]);
        script.call(libc::SYS_prctl, &[PR_SET_MM, PR_SET_MM_MAP, map, 13 * 8, 0]);
        for descriptor in &self.image.descriptors {
            descriptors::set_flags(script, descriptor);
        }
        for (signal, action) in &self.image.signals {
            let action = script.words(action);
            script.call(libc::SYS_rt_sigaction, &[u64::from(*signal), action, 0, 8]);
        }
        if let Some(own) = self.image.threads.first() {
            script.call(libc::SYS_set_tid_address, &[own.id_at]);
            register(script, own);
            self.queue(script, self.pid, own);
        }
        for (signal, info) in &self.image.pending {
            let info = script.bytes(info);
            script.call(libc::SYS_rt_sigqueueinfo, &[self.pid as u64, *signal as u64, info]);
        }
        for bit in (0..64).filter(|bit| self.image.barriers & (1 << bit) != 0) {
            script.call(libc::SYS_membarrier, &[1 << bit, 0]);
        }
        for thread in self.image.threads.iter().skip(1) {
            let id_at = thread.id_at;
            script.call(libc::SYS_clone, &[CLONE_FLAGS as u64, thread.registers.rsp, 0, id_at, 0]);
        }
    }

    /// Sends a thread again what it had not taken. Only the thread itself may say who sent it.
    fn queue(&self, script: &mut Script, tid: Tid, thread: &Thread) {
        for (signal, info) in &thread.pending {
            let info = script.bytes(info);
            let arguments = [self.pid as u64, tid as u64, *signal as u64, info];
            script.call(libc::SYS_rt_tgsigqueueinfo, &arguments);
        }
    }

    /// Takes the lent memory away, by an instruction that lies elsewhere.
    fn take_back(&self, base: u64) -> Result<(), CheckpointError> {
        if let Some(own) = self.image.threads.first() {
            self.memory.write(own.id_at, &self.pid.to_ne_bytes())?;
        }
        let at = tracee::syscall_instruction(self.pid, &self.memory)?;
        tracee::call(self.pid, at, libc::SYS_munmap, [base, Script::LENGTH, 0, 0, 0, 0]).map(drop)
    }
}

const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
/// As the C library starts threads; the id is written by the kernel, since nobody else is there to.
const CLONE_FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_CHILD_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Maps parts of a file. Its stamp is taken from what was opened, not from the path, which may be another file's by then.
fn map_file<'a>(
    script: &mut Script,
    descriptor: u64,
    (path, stamp): (&Path, Option<FileStamp>),
    areas: impl IntoIterator<Item = &'a KeptArea>,
) {
    let name = script.path(path);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    script.call_for(descriptor, libc::SYS_openat, &[libc::AT_FDCWD as u64, name, flags as u64, 0]);
    if let Some(stamp) = stamp {
        script.stat(descriptor, stamp, path);
    }
    for area in areas {
        map(script, area, Some(descriptor));
    }
    script.call(libc::SYS_close, &[descriptor]);
}

fn map(script: &mut Script, area: &KeptArea, descriptor: Option<u64>) {
    let offset = match &area.from {
        From::Nothing | From::Stack { .. } => 0,
        From::Kept { offset } | From::File { offset, .. } | From::Apart { offset } => *offset,
    };
    let kind = match (&area.from, descriptor) {
        (From::Stack { .. }, _) => libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN | libc::MAP_STACK,
        (_, None) => libc::MAP_ANONYMOUS,
        (_, Some(_)) => 0,
    };
    let sharing = if area.flags.droppable { libc::MAP_DROPPABLE } else { libc::MAP_PRIVATE };
    let flags = sharing | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE | kind;
    let (start, length, rights) = (area.start, area.length, area.rights.protection());
    script
        .call(libc::SYS_mmap, &[start, length, rights, flags as u64, descriptor.unwrap_or(u64::MAX), offset]);
    for advice in &area.flags.advice {
        script.call(libc::SYS_madvise, &[start, length, *advice as u64]);
    }
}

/// What a thread tells the kernel of itself.
fn register(script: &mut Script, thread: &Thread) {
    // As exact as a monitor asks for; by custom timers may be 50 microseconds late.
    script.call(libc::SYS_prctl, &[libc::PR_SET_TIMERSLACK as u64, 1, 0, 0, 0]);
    let (head, length) = thread.robust_list;
    if head != 0 {
        script.call(libc::SYS_set_robust_list, &[head, length]);
    }
    let [address, flags, size] = thread.alternate_stack;
    // Only the lower half is the flags: the rest is padding.
    let flags = flags & u64::from(u32::MAX) & !(libc::SS_ONSTACK as u64);
    if flags & libc::SS_DISABLE as u64 == 0 {
        let stack = script.words(&[address, flags, size]);
        script.call(libc::SYS_sigaltstack, &[stack, 0]);
    }
    let rseq = thread.rseq;
    if rseq.pointer != 0 {
        let words = [rseq.pointer, u64::from(rseq.size), 0, u64::from(rseq.signature)];
        script.call(libc::SYS_rseq, &words);
    }
}

/// Applies seccomp filters to all threads.
fn install_filters(script: &mut Script, filters: &[Vec<u64>]) {
    script.call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]);
    for filter in filters {
        let steps = script.words(filter);
        // `struct sock_fprog`: how many, and where.
        let program = script.words(&[filter.len() as u64, steps]);
        let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
        script.call(libc::SYS_seccomp, &[u64::from(libc::SECCOMP_SET_MODE_FILTER), all, program]);
    }
}

fn set(tid: Tid, thread: &Thread) -> io::Result<()> {
    fence::set_xstate(tid, &thread.xstate)?;
    fence::set_registers(tid, &resumed(thread.registers))?;
    fence::set_signal_mask(tid, thread.signal_mask)
}

/// Registers with which a thread goes on that was stopped in a system call: as after a signal.
fn resumed(mut registers: Registers) -> Registers {
    const SYSCALL_BYTES: u64 = 2;
    if registers.orig_rax as i64 >= 0 {
        match registers.rax as i64 {
            RESTART_SYSTEM_CALL | RESTART_NO_INTERRUPT => {
                registers.rax = registers.orig_rax;
                registers.rip -= SYSCALL_BYTES;
            }
            RESTART_NO_HANDLER | RESTART_BLOCK => registers.rax = -i64::from(libc::EINTR) as u64,
            _ => {}
        }
    }
    Registers { orig_rax: u64::MAX, ..registers }
}

/// What the kernel has in a register for itself while a call is to be made again; of linux/errno.h.
const RESTART_SYSTEM_CALL: i64 = -512;
const RESTART_NO_INTERRUPT: i64 = -513;
const RESTART_NO_HANDLER: i64 = -514;
const RESTART_BLOCK: i64 = -516;
