//! Ends a program whose credentials change after its start: the kernel then clears its parent-death signal.
//!
//! Two small processes stand between us and the program. Neither executes another program, and neither changes
//! its credentials:
//!
//! ```text
//! us ── warden ──┬── init, the first of a new PID namespace: waits for the end of a pipe from the warden
//!                └── the program, in that namespace
//! ```
//!
//! The warden is our child process, and is killed when we exit. When it exits, for whatever reason, the pipe is
//! closed and `init` exits; when the first process of a PID namespace exits, the kernel kills all others in it.
//! When the program exits first, the warden reaps both and exits with the program's status.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// A shell's exit status for a program that a signal killed is 128 plus the signal.
const SIGNALLED: i32 = 128;

/// Starts a warden and an init process between us and the program. [`Command::spawn`] gives the warden as the
/// child process; SIGTERM to it kills the program. A `pre_exec` closure that is to affect only the program
/// must be added after this.
pub(crate) fn interpose_warden(command: &mut Command) {
    // SAFETY: the function and everything that it calls make system calls only, and allocate nothing. It
    // returns only in the process that goes on to exec.
    unsafe {
        command.pre_exec(fork_warden_and_init);
    }
}

fn fork_warden_and_init() -> io::Result<()> {
    let before = block_signals()?;
    let (pipe_reader, pipe_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: takes no pointer. Later child processes are in a new PID namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(init) = fork()? else { run_init(&pipe_reader) };
    let Some(program) = fork()? else { return restore_signals(&before) };
    run_warden(program, init, pipe_writer)
}

/// Waits until the warden exits.
fn run_init(pipe_reader: &OwnedFd) -> ! {
    set_process_name(c"vm-init");
    close_all_but(pipe_reader);
    // SAFETY: a system call that takes no pointer. Orphans in this namespace become our child processes, and
    // need not be reaped.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let mut byte = 0_u8;
    loop {
        // SAFETY: writes at most one byte, and there is space for one.
        match unsafe { libc::read(0, (&raw mut byte).cast(), 1) } {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => exit(0),
        }
    }
}

/// Waits until the program exits, kills it on SIGTERM, and exits with its status.
fn run_warden(program: Pid, init: Pid, pipe_writer: OwnedFd) -> ! {
    set_process_name(c"vm-warden");
    close_all_but(&pipe_writer);
    // SAFETY: a system call that takes no pointer. It discards a pending SIGCHLD, so it comes before any
    // wait.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let status = wait_or_kill(program);
    // Closing the pipe makes init exit; the kernel waits for all processes in its namespace. SAFETY: closes
    // the descriptor that `close_all_but` made, which nothing owns.
    unsafe { libc::close(0) };
    // On an error there is nothing to wait for.
    waitpid(Some(init), WaitOptions::empty()).ok();
    exit_like(status)
}

fn wait_or_kill(program: Pid) -> Option<WaitStatus> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set before anything is added.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGCHLD);
    }
    loop {
        // Check before waiting: SIGCHLD is lost if the program exited before the default action was set.
        match waitpid(Some(program), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(status),
            Ok(None) => {}
            Err(_) => return None,
        }
        // SAFETY: the set is initialized, and no details are requested.
        if unsafe { libc::sigwaitinfo(signals.as_ptr(), std::ptr::null_mut()) } == libc::SIGTERM {
            // This fails only if the program has exited already, which the next wait detects.
            kill_process(program, Signal::KILL).ok();
        }
    }
}

fn exit_like(status: Option<WaitStatus>) -> ! {
    let Some(status) = status else { exit(1) };
    let Some(signal) = status.terminating_signal() else { exit(status.exit_status().unwrap_or(1)) };
    // SAFETY: system calls; the set is initialized before use. No core is dumped: it is not this process that
    // failed.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::signal(signal, libc::SIG_DFL);
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_UNBLOCK, all.as_ptr(), std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
    exit(SIGNALLED + signal)
}

fn exit(code: i32) -> ! {
    // SAFETY: exits at once, so that nothing inherited by the fork is flushed or destroyed twice.
    unsafe { libc::_exit(code) }
}

/// Signal handlers that the fork inherited must not run here.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initializes one set, `sigprocmask` the other.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialized.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// None in the child process. Unlike the C library's fork, it runs no `pthread_atfork` handlers.
fn fork() -> io::Result<Option<Pid>> {
    const NONE: libc::c_long = 0;
    let flags = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without flags that share anything this copies the process as fork does; each copy continues on
    // its own stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, NONE, NONE, NONE, NONE) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid as i32))
}

/// Closes all descriptors but `descriptor`, which becomes number 0. This also closes the pipe by which
/// [`Command::spawn`] detects that the program was executed.
fn close_all_but(descriptor: &OwnedFd) {
    // SAFETY: system calls that take no pointer. No closed descriptor is used later: both callers never
    // return.
    unsafe {
        libc::dup2(descriptor.as_raw_fd(), 0);
        if libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0) != 0 {
            close_each_descriptor();
        }
    }
}

/// For kernels before 5.9, which lack `close_range`.
fn close_each_descriptor() {
    // SAFETY: as in `close_all_but`; the call initializes `limit`.
    unsafe {
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) == 0 {
            for descriptor in 1..i32::try_from(limit.assume_init().rlim_cur).unwrap_or(i32::MAX) {
                libc::close(descriptor);
            }
        }
    }
}

/// Sets the name that the process list shows.
fn set_process_name(name: &std::ffi::CStr) {
    // SAFETY: the text ends with a zero byte.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
