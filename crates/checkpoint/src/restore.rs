//! Restores a process from a checkpoint.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::PAGE;
use crate::descriptors;
use crate::dump::{self, WRITTEN_BY, boot_id};
use crate::error::{self, CheckpointError, file, incompatible, step, unsupported};
use crate::fence::{self, Registers, Tid};
use crate::image::{Backing, Descriptor, DumpedArea, IMAGE_FILE, Image, Layout, PAGES_FILE, Thread};
use crate::mapped::FileStamp;
use crate::maps::{self, Area, MappingKind};
use crate::restorer::RestorerBlob;
use crate::threads;
use crate::tracee::{self, Memory, run_blob, wait_for_stop};

/// The checkpoint of a process.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    image: Image,
}

impl Checkpoint {
    /// Opens what [`checkpoint_process`](crate::checkpoint_process) wrote, and checks that it can be restored here.
    ///
    /// # Errors
    /// [`CheckpointError::Incompatible`] when it was written before a reboot or by another version, or when a
    /// program or library that is mapped was replaced; [`CheckpointError::File`] when a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(IMAGE_FILE);
        let text = fs::read(&path).map_err(file(&path))?;
        let image: Image = serde_json::from_slice(&text).map_err(|error| incompatible(error.to_string()))?;
        if image.written_by != WRITTEN_BY {
            return Err(incompatible(format!("it was written by {}", image.written_by)));
        }
        if image.boot_id != boot_id()? {
            return Err(incompatible("the host has rebooted since"));
        }
        image.files.iter().try_for_each(|mapped| mapped.check())?;
        Ok(Self { dir: dir.to_owned(), image })
    }

    /// The program that the process ran.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.image.program
    }

    /// Descriptors equivalent to those that the process had, with their numbers. Each file is opened at the
    /// path that `relocate` gives for its old one.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn descriptors(
        &self,
        relocate: impl Fn(&Path) -> PathBuf,
    ) -> Result<Vec<(i32, OwnedFd)>, CheckpointError> {
        let reopen = |descriptor: &Descriptor| {
            let reopened = descriptors::reopen(descriptor, &relocate)?;
            Ok(reopened.map(|opened| (descriptor.number, opened)))
        };
        self.image.descriptors.iter().filter_map(|descriptor| reopen(descriptor).transpose()).collect()
    }

    /// Turns a child process that stopped before its first instruction (see [`trace_me`](crate::trace_me))
    /// into the checkpointed process, and resumes it. The child process must run [`Checkpoint::program`] and
    /// have all descriptors of the checkpoint. `external` is mapped in place of the external file. The seccomp
    /// programs in `filters`, lists of `struct sock_filter`, are always installed. Call this on the thread that
    /// started the child process.
    ///
    /// # Errors
    /// When a step fails, or the process had seccomp filters and `filters` is empty. The child process cannot
    /// be used then; the caller kills and reaps it.
    pub fn restore(
        &self,
        child: u32,
        external: Option<&Path>,
        filters: &[Vec<u64>],
    ) -> Result<(), CheckpointError> {
        if self.image.has_filters && filters.is_empty() {
            return Err(unsupported("the process had seccomp filters, but none were given for the restore"));
        }
        let pid = Tid::try_from(child).map_err(|_| CheckpointError::Ended)?;
        wait_for_stop(pid)?;
        fence::set_options(pid).map_err(step("trace the process"))?;
        // Signals that are sent to it now stay pending until the restore is complete; its threads inherit the
        // mask.
        fence::set_signal_mask(pid, threads::BLOCKED).map_err(step("block the process's signals"))?;
        let mut restoration =
            Restoration { image: &self.image, pid, memory: Memory::open(pid)?, new_threads: Vec::new() };
        let restored = restoration
            .rebuild(&self.dir.join(PAGES_FILE), external, filters)
            .and_then(|base| restoration.resume(base));
        if restored.is_err() {
            restoration.kill();
        }
        restored
    }
}

struct Restoration<'a> {
    image: &'a Image,
    pid: Tid,
    memory: Memory,
    /// All threads but the first.
    new_threads: Vec<Tid>,
}

impl Restoration<'_> {
    /// Restores everything but registers, extended state and signal masks, which [`Self::resume`] sets last. Gives the address of the scratch mapping.
    fn rebuild(
        &mut self,
        pages: &Path,
        external: Option<&Path>,
        filters: &[Vec<u64>],
    ) -> Result<u64, CheckpointError> {
        let areas = maps::read_maps(self.pid)?;
        let base = self.find_scratch(&areas);
        self.map_scratch(base)?;
        let own_layout = dump::layout(self.pid, 0)?;
        let mut blob = RestorerBlob::new(base);
        // The address of its stack may be in use in the checkpoint; the process list then shows the arguments
        // of the checkpointed process.
        let stack = areas.iter().find(|area| (area.start..area.end).contains(&own_layout.start_stack));
        let stack = stack.filter(|area| self.overlaps_no_dumped_area(area));
        self.unmap_all(&mut blob, &areas, stack)?;
        self.map_memory(&mut blob, pages, external)?;
        self.set_kernel_state(&mut blob, if stack.is_some() { &own_layout } else { &self.image.layout });
        self.run_blob(self.pid, &blob)?;
        self.copy_stack(pages)?;
        for (thread, tid) in self.image.threads.iter().skip(1).zip(self.new_threads.clone()) {
            let mut blob = RestorerBlob::new(base);
            register_thread(&mut blob, thread);
            self.queue_signals(&mut blob, tid, thread);
            self.run_blob(tid, &blob)?;
        }
        self.write_mutex_owners()?;
        let mut blob = RestorerBlob::new(base);
        install_filters(&mut blob, filters);
        self.run_blob(self.pid, &blob)?;
        Ok(base)
    }

    /// Writes the new thread ids into the mutexes that the threads hold.
    fn write_mutex_owners(&self) -> Result<(), CheckpointError> {
        let tids: Vec<&Tid> = std::iter::once(&self.pid).chain(&self.new_threads).collect();
        for (address, thread) in &self.image.mutex_owners {
            let tid = tids.get(*thread).ok_or_else(|| incompatible("the image is damaged"))?;
            self.memory.write(*address, &tid.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Kills the process, and reaps its threads so that its parent can reap it: only the tracer sees the end
    /// of a traced thread.
    fn kill(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            // This fails only if the process has exited already.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        for tid in &self.new_threads {
            while matches!(fence::wait(*tid), Ok(fence::Waited::Stopped { .. })) {}
        }
    }

    fn resume(&self, base: u64) -> Result<(), CheckpointError> {
        self.unmap_scratch(base)?;
        let tids = std::iter::once(&self.pid).chain(&self.new_threads);
        for (thread, tid) in self.image.threads.iter().zip(tids.clone()) {
            set_thread_state(*tid, thread).map_err(step("set a thread's state"))?;
        }
        for tid in tids {
            fence::detach(*tid).map_err(step("detach from the process"))?;
        }
        Ok(())
    }

    /// A free address for the restorer blob, and for the vdso and vvar pages while they are moved.
    fn find_scratch(&self, areas: &[Area]) -> u64 {
        let current = areas.iter().map(|area| (area.start, area.end));
        let restored = self.image.areas.iter().map(|area| (area.start, area.start + area.length));
        let kernel = self.image.kernel_areas.iter().map(|(_, start, length)| (*start, start + length));
        maps::find_gap(
            2 * RestorerBlob::TOTAL_BYTES,
            &current.chain(restored).chain(kernel).collect::<Vec<_>>(),
        )
    }

    fn map_scratch(&self, base: u64) -> Result<(), CheckpointError> {
        let syscall_address = tracee::syscall_instruction(self.pid, &self.memory)?;
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let arguments = [base, RestorerBlob::TOTAL_BYTES, rights as u64, flags as u64, u64::MAX, 0];
        tracee::system_call(self.pid, syscall_address, libc::SYS_mmap, arguments).map(drop)
    }

    fn run_blob(&mut self, tid: Tid, blob: &RestorerBlob) -> Result<(), CheckpointError> {
        self.memory.write(blob.code(), &blob.to_bytes()?)?;
        run_blob(tid, &self.memory, blob, &mut self.new_threads)
    }

    /// Unmaps the child process's memory, and moves the vdso and vvar pages to their old addresses. Its own
    /// stack stays mapped unless a restored mapping needs its addresses: it holds the arguments and environment that the process list shows.
    fn unmap_all(
        &self,
        blob: &mut RestorerBlob,
        areas: &[Area],
        stack: Option<&Area>,
    ) -> Result<(), CheckpointError> {
        let mut kernel = Vec::new();
        for area in areas {
            match &area.kind {
                MappingKind::Kernel(name) => kernel.push((name.clone(), area.start, area.length())),
                MappingKind::Vsyscall => {}
                _ if Some(area) == stack => {}
                _ => blob.call(libc::SYS_munmap, &[area.start, area.length()]),
            }
        }
        let is_same = |(current, dumped): (&(String, u64, u64), &(String, u64, u64))| {
            current.0 == dumped.0 && current.2 == dumped.2
        };
        let dumped = &self.image.kernel_areas;
        if kernel.len() != dumped.len() || !kernel.iter().zip(dumped).all(is_same) {
            return Err(incompatible("the vdso or vvar pages differ"));
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let mut temporary = blob.code() + RestorerBlob::TOTAL_BYTES;
        let mut moves = Vec::new();
        for ((_, from, length), (_, to, _)) in kernel.iter().zip(dumped) {
            blob.call(libc::SYS_mremap, &[*from, *length, *length, flags, temporary]);
            moves.push([temporary, *length, *length, flags, *to]);
            temporary += length;
        }
        moves.iter().for_each(|arguments| blob.call(libc::SYS_mremap, arguments));
        Ok(())
    }

    fn overlaps_no_dumped_area(&self, area: &Area) -> bool {
        let overlaps = |start: u64, length: u64| start < area.end && area.start < start + length;
        !self.image.areas.iter().any(|dumped| overlaps(dumped.start, dumped.length))
            && !self.image.kernel_areas.iter().any(|(_, start, length)| overlaps(*start, *length))
    }

    fn map_memory(
        &self,
        blob: &mut RestorerBlob,
        pages: &Path,
        external: Option<&Path>,
    ) -> Result<(), CheckpointError> {
        let descriptor = self.free_descriptor();
        let backed_by = |is_kind: fn(&Backing) -> bool| {
            self.image.areas.iter().filter(move |area| is_kind(&area.backing))
        };
        for area in backed_by(|backing| matches!(backing, Backing::Zero)) {
            map_area(blob, area, None);
        }
        for area in backed_by(|backing| matches!(backing, Backing::Stack { .. })) {
            map_area(blob, area, None);
        }
        let dumped = backed_by(|backing| matches!(backing, Backing::Dumped { .. }));
        map_file(blob, descriptor, (pages, Some(self.image.pages)), dumped);
        let mut files: Vec<Vec<&DumpedArea>> = vec![Vec::new(); self.image.files.len()];
        for area in &self.image.areas {
            if let Backing::File { index, .. } = &area.backing {
                files.get_mut(*index).ok_or_else(|| incompatible("the image is damaged"))?.push(area);
            }
        }
        for (mapped, areas) in self.image.files.iter().zip(files) {
            map_file(blob, descriptor, (&mapped.path, Some(mapped.stamp)), areas);
        }
        let mut external_areas = backed_by(|backing| matches!(backing, Backing::External { .. })).peekable();
        match external {
            Some(path) => map_file(blob, descriptor, (path, None), external_areas),
            None if external_areas.peek().is_none() => {}
            None => return Err(unsupported("the external file is missing")),
        }
        Ok(())
    }

    /// Copies the first thread's stack to its old address.
    fn copy_stack(&self, pages: &Path) -> Result<(), CheckpointError> {
        let file = fs::File::open(pages).map_err(error::file(pages))?;
        for area in &self.image.areas {
            let Backing::Stack { offset } = area.backing else { continue };
            let mut bytes = vec![0; area.length as usize];
            file.read_exact_at(&mut bytes, offset).map_err(error::file(pages))?;
            let written = bytes.chunks(PAGE as usize).zip((area.start..).step_by(PAGE as usize));
            for (page, address) in written.filter(|(page, _)| page.iter().any(|byte| *byte != 0)) {
                self.memory.write(address, page)?;
            }
        }
        Ok(())
    }

    /// The lowest descriptor number that is not in use, which `openat` therefore gives.
    fn free_descriptor(&self) -> u64 {
        let taken: Vec<i32> = self.image.descriptors.iter().map(|descriptor| descriptor.number).collect();
        (0..).find(|number| !taken.contains(number)).unwrap_or_default() as u64
    }

    /// Restores what the kernel holds of a process besides memory, and starts its threads.
    fn set_kernel_state(&self, blob: &mut RestorerBlob, own_layout: &Layout) {
        let layout = &self.image.layout;
        let auxv = blob.bytes(&self.image.auxv);
        let map = blob.words(&[
            layout.start_code,
            layout.end_code,
            layout.start_data,
            layout.end_data,
            layout.start_brk,
            layout.brk,
            layout.start_stack,
            own_layout.arg_start,
            own_layout.arg_end,
            own_layout.env_start,
            own_layout.env_end,
            auxv,
            // Length of the auxiliary vector in the lower half, and in the upper half -1: the executable
            // stays the same.
            self.image.auxv.len() as u64 | u64::from(u32::MAX) << 32,
        ]);
        blob.call(libc::SYS_prctl, &[PR_SET_MM, PR_SET_MM_MAP, map, 13 * 8, 0]);
        for descriptor in &self.image.descriptors {
            descriptors::set_flags(blob, descriptor);
        }
        for (signal, action) in &self.image.signals {
            let action = blob.words(action);
            blob.call(libc::SYS_rt_sigaction, &[u64::from(*signal), action, 0, 8]);
        }
        if let Some(first) = self.image.threads.first() {
            blob.call(libc::SYS_set_tid_address, &[first.tid_address]);
            register_thread(blob, first);
            self.queue_signals(blob, self.pid, first);
        }
        for (signal, info) in &self.image.pending {
            let info = blob.bytes(info);
            blob.call(libc::SYS_rt_sigqueueinfo, &[self.pid as u64, *signal as u64, info]);
        }
        for bit in (0..64).filter(|bit| self.image.membarrier_registrations & (1 << bit) != 0) {
            blob.call(libc::SYS_membarrier, &[1 << bit, 0]);
        }
        for thread in self.image.threads.iter().skip(1) {
            let tid_address = thread.tid_address;
            blob.call(libc::SYS_clone, &[CLONE_FLAGS as u64, thread.registers.rsp, 0, tid_address, 0]);
        }
    }

    /// Queues a thread's pending signals. This runs on the thread itself: only that may set who sent a
    /// signal.
    fn queue_signals(&self, blob: &mut RestorerBlob, tid: Tid, thread: &Thread) {
        for (signal, info) in &thread.pending {
            let info = blob.bytes(info);
            let arguments = [self.pid as u64, tid as u64, *signal as u64, info];
            blob.call(libc::SYS_rt_tgsigqueueinfo, &arguments);
        }
    }

    /// Unmaps the scratch mapping, by a system call instruction outside of it.
    fn unmap_scratch(&self, base: u64) -> Result<(), CheckpointError> {
        if let Some(first) = self.image.threads.first() {
            self.memory.write(first.tid_address, &self.pid.to_ne_bytes())?;
        }
        let syscall_address = tracee::syscall_instruction(self.pid, &self.memory)?;
        tracee::system_call(
            self.pid,
            syscall_address,
            libc::SYS_munmap,
            [base, RestorerBlob::TOTAL_BYTES, 0, 0, 0, 0],
        )
        .map(drop)
    }
}

const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
/// The flags with which the C library starts threads, with CLONE_CHILD_SETTID, so that the kernel writes the
/// thread id, and without CLONE_SETTLS: the thread pointer is among the restored registers.
const CLONE_FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_CHILD_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Maps parts of a file. The stamp is that of the opened file: by then the path may name another one.
fn map_file<'a>(
    blob: &mut RestorerBlob,
    descriptor: u64,
    (path, stamp): (&Path, Option<FileStamp>),
    areas: impl IntoIterator<Item = &'a DumpedArea>,
) {
    let name = blob.path(path);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    blob.call_expecting(descriptor, libc::SYS_openat, &[libc::AT_FDCWD as u64, name, flags as u64, 0]);
    if let Some(stamp) = stamp {
        blob.fstat(descriptor, stamp, path);
    }
    for area in areas {
        map_area(blob, area, Some(descriptor));
    }
    blob.call(libc::SYS_close, &[descriptor]);
}

fn map_area(blob: &mut RestorerBlob, area: &DumpedArea, descriptor: Option<u64>) {
    let offset = match &area.backing {
        Backing::Zero | Backing::Stack { .. } => 0,
        Backing::Dumped { offset } | Backing::File { offset, .. } | Backing::External { offset } => *offset,
    };
    let mapping = match (&area.backing, descriptor) {
        (Backing::Stack { .. }, _) => libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN | libc::MAP_STACK,
        (_, None) => libc::MAP_ANONYMOUS,
        (_, Some(_)) => 0,
    };
    let sharing = if area.flags.droppable { libc::MAP_DROPPABLE } else { libc::MAP_PRIVATE };
    let flags = sharing | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE | mapping;
    let (start, length, rights) = (area.start, area.length, area.rights.protection());
    blob.call(libc::SYS_mmap, &[start, length, rights, flags as u64, descriptor.unwrap_or(u64::MAX), offset]);
    for advice in &area.flags.advice {
        blob.call(libc::SYS_madvise, &[start, length, *advice as u64]);
    }
}

/// Registers with the kernel what belongs to a thread.
fn register_thread(blob: &mut RestorerBlob, thread: &Thread) {
    // The smallest slack, as a VMM sets it; with the default, timers may be 50 microseconds late.
    blob.call(libc::SYS_prctl, &[libc::PR_SET_TIMERSLACK as u64, 1, 0, 0, 0]);
    let (head, length) = thread.robust_list;
    if head != 0 {
        blob.call(libc::SYS_set_robust_list, &[head, length]);
    }
    let [address, flags, size] = thread.alternate_stack;
    // Only the lower half is the flags: the rest is padding.
    let flags = flags & u64::from(u32::MAX) & !(libc::SS_ONSTACK as u64);
    if flags & libc::SS_DISABLE as u64 == 0 {
        let stack = blob.words(&[address, flags, size]);
        blob.call(libc::SYS_sigaltstack, &[stack, 0]);
    }
    let rseq = thread.rseq;
    if rseq.pointer != 0 {
        let words = [rseq.pointer, u64::from(rseq.size), 0, u64::from(rseq.signature)];
        blob.call(libc::SYS_rseq, &words);
    }
}

/// Applies seccomp filters to all threads.
fn install_filters(blob: &mut RestorerBlob, filters: &[Vec<u64>]) {
    blob.call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]);
    for filter in filters {
        let steps = blob.words(filter);
        // `struct sock_fprog`: length and address.
        let program = blob.words(&[filter.len() as u64, steps]);
        let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
        blob.call(libc::SYS_seccomp, &[u64::from(libc::SECCOMP_SET_MODE_FILTER), all, program]);
    }
}

fn set_thread_state(tid: Tid, thread: &Thread) -> io::Result<()> {
    fence::set_xstate(tid, &thread.xstate)?;
    fence::set_registers(tid, &registers_after_stop(thread.registers))?;
    fence::set_signal_mask(tid, thread.signal_mask)
}

/// The registers to resume a thread with. One that was stopped in a system call continues as after a signal.
fn registers_after_stop(mut registers: Registers) -> Registers {
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

/// Results that the kernel uses internally for a system call that is to be restarted; of linux/errno.h.
const RESTART_SYSTEM_CALL: i64 = -512;
const RESTART_NO_INTERRUPT: i64 = -513;
const RESTART_NO_HANDLER: i64 = -514;
const RESTART_BLOCK: i64 = -516;
