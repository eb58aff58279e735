//! The unsafe calls of this crate, and nothing else.
#![expect(unsafe_code, reason = "tracing a process, and code that runs in another one, have no safe form")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{from_mut, from_ref};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};
use serde::{Deserialize, Serialize};

/// A thread id.
pub(crate) type Tid = i32;

/// General registers; `struct user_regs_struct` of sys/user.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the processor's own names")]
pub(crate) struct Registers {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) orig_rax: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) eflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    pub(crate) ds: u64,
    pub(crate) es: u64,
    pub(crate) fs: u64,
    pub(crate) gs: u64,
}

/// A thread's restartable sequence; `struct ptrace_rseq_configuration` of linux/ptrace.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rseq {
    pub(crate) pointer: u64,
    pub(crate) size: u32,
    pub(crate) signature: u32,
    pub(crate) flags: u32,
    padding: u32,
}

/// The result of waiting for a traced thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It stopped, with this signal and this ptrace event (0 for none).
    Stopped { signal: i32, event: i32 },
    /// It exited.
    Ended,
}

const GET_RSEQ: libc::c_uint = 0x420f;
const XSTATE: usize = 0x202;
/// More than any CPU has: AMX takes 11 KiB.
const MAX_XSTATE: usize = 64 << 10;

/// # Safety
/// Where the request has the kernel write to `data`, that many bytes must be valid there and not be shared.
unsafe fn ptrace(request: libc::c_uint, tid: Tid, address: usize, data: *mut c_void) -> io::Result<u64> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::ptrace(request, tid, address, data) };
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Has the child process be traced by the thread that starts it, and stop before its first instruction. If the
/// process that starts it has ended by then, the child is killed.
pub(crate) fn trace_me(command: &mut Command) {
    trace_by(command, getpid());
}

/// The part of [`trace_me`] that runs in the child of `parent`.
fn trace_by(command: &mut Command, parent: Pid) {
    // SAFETY: the closure makes system calls and allocates nothing, as is required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // The request reads and writes no memory.
            ptrace(libc::PTRACE_TRACEME, 0, 0, std::ptr::null_mut())?;
            // The tracer of an orphan is the process that adopted it, which never resumes it: the next signal would
            // stop the child for ever, with all descriptors of its dead parent, such as locks. Only SIGKILL ends it.
            if getppid() != Some(parent) {
                kill_process(getpid(), Signal::KILL)?;
            }
            Ok(())
        });
    }
}

/// Traces a thread, without stopping it.
pub(crate) fn seize(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_SEIZE, tid, 0)
}

/// Asks a seized thread to stop.
pub(crate) fn interrupt(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// Traces all threads that this one starts, and kills it when the tracer exits.
pub(crate) fn set_options(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_SETOPTIONS, tid, (libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL) as usize)
}

/// Resumes a thread, without the signal that it stopped for.
pub(crate) fn resume(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_CONT, tid, 0)
}

/// Resumes a thread, with a signal.
pub(crate) fn resume_with_signal(tid: Tid, signal: i32) -> io::Result<()> {
    send_request(libc::PTRACE_CONT, tid, signal as usize)
}

/// Makes a thread execute one instruction.
pub(crate) fn single_step(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_SINGLESTEP, tid, 0)
}

/// Resumes a thread, and stops tracing it.
pub(crate) fn detach(tid: Tid) -> io::Result<()> {
    send_request(libc::PTRACE_DETACH, tid, 0)
}

fn send_request(request: libc::c_uint, tid: Tid, data: usize) -> io::Result<()> {
    // SAFETY: none of these requests uses `data` as an address.
    unsafe { ptrace(request, tid, 0, data as *mut c_void) }.map(drop)
}

/// The new thread that a `PTRACE_EVENT_CLONE` stop reports.
pub(crate) fn new_thread(tid: Tid) -> io::Result<Tid> {
    let mut message: u64 = 0;
    // SAFETY: the request writes one word.
    unsafe { ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, from_mut(&mut message).cast()) }?;
    Tid::try_from(message).map_err(io::Error::other)
}

pub(crate) fn registers(tid: Tid) -> io::Result<Registers> {
    let mut registers = Registers::default();
    // SAFETY: the request writes a `struct user_regs_struct`, whose layout `Registers` has.
    unsafe { ptrace(libc::PTRACE_GETREGS, tid, 0, from_mut(&mut registers).cast()) }?;
    Ok(registers)
}

pub(crate) fn set_registers(tid: Tid, registers: &Registers) -> io::Result<()> {
    // SAFETY: the request reads a `struct user_regs_struct`, and writes nothing.
    unsafe { ptrace(libc::PTRACE_SETREGS, tid, 0, from_ref(registers).cast_mut().cast()) }.map(drop)
}

/// Floating-point and vector registers, in the format of XSAVE.
pub(crate) fn xstate(tid: Tid) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_XSTATE];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel writes no more than the iovec allows, which is exactly `bytes`.
    unsafe { ptrace(libc::PTRACE_GETREGSET, tid, XSTATE, from_mut(&mut vector).cast()) }?;
    bytes.truncate(vector.iov_len);
    Ok(bytes)
}

pub(crate) fn set_xstate(tid: Tid, bytes: &[u8]) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads the iovec, and no more than it allows.
    unsafe { ptrace(libc::PTRACE_SETREGSET, tid, XSTATE, from_mut(&mut vector).cast()) }.map(drop)
}

/// The signals that a thread blocks, a bit for each.
pub(crate) fn signal_mask(tid: Tid) -> io::Result<u64> {
    let mut mask: u64 = 0;
    // SAFETY: the request writes as many bytes as it is given, which are those of a word.
    unsafe { ptrace(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>(), from_mut(&mut mask).cast()) }?;
    Ok(mask)
}

pub(crate) fn set_signal_mask(tid: Tid, mask: u64) -> io::Result<()> {
    // SAFETY: the request reads one word.
    let set =
        unsafe { ptrace(libc::PTRACE_SETSIGMASK, tid, size_of::<u64>(), from_ref(&mask).cast_mut().cast()) };
    set.map(drop)
}

/// A queue of pending signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalQueue {
    /// Signals that were sent to the thread.
    Thread = 0,
    /// Signals that were sent to the process.
    Process = 1,
}

/// Bytes of a `siginfo_t`.
const SIGINFO_BYTES: usize = size_of::<libc::siginfo_t>();
pub(crate) type Siginfo = [u8; SIGINFO_BYTES];

/// The pending signals of a thread.
pub(crate) fn pending_signals(tid: Tid, queue: SignalQueue) -> io::Result<Vec<Siginfo>> {
    let mut found = Vec::new();
    loop {
        let mut info = [0; SIGINFO_BYTES];
        let next = libc::ptrace_peeksiginfo_args { off: found.len() as u64, flags: queue as u32, nr: 1 };
        let (request, next) = (libc::PTRACE_PEEKSIGINFO, from_ref(&next) as usize);
        // SAFETY: the request reads `next`, and writes as many `siginfo_t` as that says, which is one, to
        // `info`.
        if unsafe { ptrace(request, tid, next, info.as_mut_ptr().cast()) }? == 0 {
            return Ok(found);
        }
        found.push(info);
    }
}

pub(crate) fn rseq(tid: Tid) -> io::Result<Rseq> {
    let mut rseq = Rseq::default();
    // SAFETY: the request writes at most as many bytes as it is given, which are those of `rseq`.
    unsafe { ptrace(GET_RSEQ, tid, size_of::<Rseq>(), from_mut(&mut rseq).cast()) }?;
    Ok(rseq)
}

/// Address and length of the head of a thread's robust list, by which the kernel finds the mutexes that it
/// holds at its exit.
pub(crate) fn robust_list(tid: Tid) -> io::Result<(u64, u64)> {
    let (mut head, mut length): (u64, u64) = (0, 0);
    let pointers = (from_mut(&mut head), from_mut(&mut length));
    // SAFETY: the call writes two words, to these.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, pointers.0, pointers.1) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((head, length)) }
}

/// Polls without a pause: most threads stop within microseconds.
const SPIN_POLLS: u32 = 200;
/// Time between polls after that.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// Waits for a traced thread to stop or exit.
///
/// The kernel reports the exit of a main thread only after all other threads have been reaped, and a traced
/// thread is reaped only by its tracer. So a blocking wait for the main thread alone would never return when
/// the process is killed: this one returns once that thread is a zombie.
pub(crate) fn wait(tid: Tid) -> io::Result<Waited> {
    for poll in 0_u32.. {
        if let Some(waited) = try_wait(tid)? {
            return Ok(waited);
        }
        if poll < SPIN_POLLS {
            std::thread::yield_now();
        } else if is_zombie(tid) {
            // It may have become reportable between the two polls.
            return Ok(try_wait(tid)?.unwrap_or(Waited::Ended));
        } else {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(Waited::Ended)
}

/// What the kernel reports of a thread now, if anything.
fn try_wait(tid: Tid) -> io::Result<Option<Waited>> {
    let mut status = 0;
    // SAFETY: the call writes one number, to `status`.
    match unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Ok(None),
        1.. if libc::WIFSTOPPED(status) => {
            Ok(Some(Waited::Stopped { signal: libc::WSTOPSIG(status), event: status >> 16 }))
        }
        1.. => Ok(Some(Waited::Ended)),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            error => Err(error),
        },
    }
}

fn is_zombie(tid: Tid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// One page of a file, mapped here without access rights: only to see how /proc shows the mapping.
#[derive(Debug)]
pub(crate) struct ProbeMapping(*mut c_void);

impl ProbeMapping {
    pub(crate) fn map(file: &impl AsFd) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address that the kernel chooses, which nothing reads.
        Ok(Self(unsafe { mmap(std::ptr::null_mut(), crate::PAGE as usize, rights, flags, file, 0) }?))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0 as u64
    }
}

impl Drop for ProbeMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value. A failure leaves one page mapped.
        unsafe { munmap(self.0, crate::PAGE as usize) }.ok();
    }
}

/// Locks a range of a file for the open file (OFD lock), without waiting.
pub(crate) fn lock_range(file: BorrowedFd<'_>, exclusive: bool, start: i64, length: i64) -> io::Result<()> {
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // SAFETY: the call reads one `struct flock`.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, from_ref(&lock)) };
    if set == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Creates a signalfd.
pub(crate) fn signalfd(mask: u64, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call reads one word.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, from_ref(&mask), size_of::<u64>(), flags) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just created it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// The code of the restorer blob: makes the system calls of a table in order, and stops at the end of the
// table or after the first call that fails. r12 is the address of the next call, r13 the end of the table; an
// entry is the number, six arguments, and space for the result. The code is only copied into other processes,
// never run here.
std::arch::global_asm!(
    ".pushsection .rodata",
    // Global: another codegen unit of this crate may refer to these.
    ".globl mimeo_checkpoint_calls, mimeo_checkpoint_calls_end",
    ".hidden mimeo_checkpoint_calls, mimeo_checkpoint_calls_end",
    "mimeo_checkpoint_calls:",
    "2:  cmp r12, r13",
    "    jae 3f",
    "    mov rax, [r12]",
    "    mov rdi, [r12 + 8]",
    "    mov rsi, [r12 + 16]",
    "    mov rdx, [r12 + 24]",
    "    mov r10, [r12 + 32]",
    "    mov r8, [r12 + 40]",
    "    mov r9, [r12 + 48]",
    "    syscall",
    "    mov [r12 + 56], rax",
    "    add r12, 64",
    "    cmp rax, -4096",
    "    jbe 2b",
    "3:  int3",
    "mimeo_checkpoint_calls_end:",
    ".popsection",
);

unsafe extern "C" {
    static mimeo_checkpoint_calls: u8;
    static mimeo_checkpoint_calls_end: u8;
}

/// The machine code above.
pub(crate) fn restorer_code() -> &'static [u8] {
    let (start, end) = (&raw const mimeo_checkpoint_calls, &raw const mimeo_checkpoint_calls_end);
    // SAFETY: both are labels in one read-only section, in this order, and the bytes between them never
    // change.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};
    use std::sync::mpsc::channel;

    use super::*;

    const SLEEP_VARIABLE: &str = "MIMEO_TEST_SLEEPS";

    /// No test by itself: a process with two threads, the test runner's and this one.
    #[test]
    fn sleeps_when_the_variable_is_set() {
        if std::env::var_os(SLEEP_VARIABLE).is_some() {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    fn sleeping_process() -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fence::tests::sleeps_when_the_variable_is_set", "--test-threads=2"]);
        command.env(SLEEP_VARIABLE, "1").stdout(Stdio::null()).spawn().unwrap()
    }

    /// The threads of a process, as soon as it has two.
    fn wait_for_two_threads(pid: u32) -> Vec<Tid> {
        loop {
            let threads: Vec<Tid> = std::fs::read_dir(format!("/proc/{pid}/task"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap())
                .collect();
            if threads.len() >= 2 {
                return threads;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_orphan_is_killed_instead_of_traced() {
        use std::os::unix::process::ExitStatusExt;
        let mut command = Command::new("true");
        // The first process is not its parent, as if the parent had ended.
        trace_by(&mut command, Pid::INIT);
        let status = command.status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn waiting_for_the_first_thread_of_a_killed_process_ends() {
        let (sender, receiver) = channel();
        // Only this thread is the tracer, not the whole process.
        std::thread::spawn(move || {
            let mut process = sleeping_process();
            let threads = wait_for_two_threads(process.id());
            let first = process.id().cast_signed();
            threads.iter().for_each(|tid| seize(*tid).unwrap());
            process.kill().unwrap();
            let waited = wait(first).unwrap();
            threads.iter().filter(|tid| **tid != first).for_each(|tid| drop(wait(*tid)));
            // Only the main thread is left to reap, by its parent.
            process.wait().unwrap();
            sender.send(matches!(waited, Waited::Ended)).unwrap();
        });
        let ended = receiver.recv_timeout(Duration::from_secs(30));
        assert_eq!(ended, Ok(true), "waiting for a killed process does not return");
    }
}
