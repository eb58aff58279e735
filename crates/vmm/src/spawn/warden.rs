//! Ends a program whose credentials change on its way, which makes the kernel
//! forget whose death it was to die of.
//!
//! Two small processes stand between us and the program. Neither runs another
//! program, and neither changes its credentials:
//!
//! ```text
//! us ── warden ──┬── init, the first of a new PID namespace: waits for the end of a pipe from the warden
//!                └── the program, in that namespace
//! ```
//!
//! The warden is our child, and is killed with us. Its end, however it comes,
//! ends the pipe, and with it `init`; and the end of a PID namespace's first
//! process is the end of all that is in the namespace. When it is the program
//! that ends, the warden ends like it, once nothing is left of either.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// What a shell says of a program that a signal ended: 128 and the signal.
const SIGNALLED: i32 = 128;

/// Has a warden and an init stand between us and the program. A SIGTERM to the
/// child that [`Command::spawn`] gives, which is the warden, kills the program.
/// What is to happen before the program alone is to be added after this.
pub(crate) fn interpose_warden(command: &mut Command) {
    // SAFETY: all that the function does, and all that it calls, are system
    // calls; nothing allocates. It returns in the one process that goes on to exec.
    unsafe {
        command.pre_exec(fork_warden_and_init);
    }
}

fn fork_warden_and_init() -> io::Result<()> {
    let before = block_signals()?;
    let (pipe_reader, pipe_writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: takes no pointer; from now on children are in a new namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(init) = fork()? else { run_init(&pipe_reader) };
    let Some(program) = fork()? else { return restore_signals(&before) };
    run_warden(program, init, pipe_writer)
}

/// Waits for the end of the warden.
fn run_init(pipe_reader: &OwnedFd) -> ! {
    set_process_name(c"vm-init");
    close_all_but(pipe_reader);
    // SAFETY: a system call that takes no pointer. Whoever is left behind by
    // its parent in here is ours then, and is not to be waited for.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte is written at most, and that is how many there are.
        match unsafe { libc::read(0, (&raw mut byte).cast(), 1) } {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => exit(0),
        }
    }
}

/// Waits for the program's end, kills it when told to, and ends like it.
fn run_warden(program: Pid, init: Pid, pipe_writer: OwnedFd) -> ! {
    set_process_name(c"vm-warden");
    close_all_but(&pipe_writer);
    // SAFETY: a system call that takes no pointer. It forgets a signal that is
    // waiting, so it is done before anything is waited for.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let status = wait_or_kill(program);
    // The end of the pipe: init ends, and waits for all in its namespace.
    // SAFETY: closes the descriptor that `keep_only` made, which nobody owns.
    unsafe { libc::close(0) };
    waitpid(Some(init), WaitOptions::empty()).ok();
    exit_like(status)
}

fn wait_or_kill(program: Pid) -> Option<WaitStatus> {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` makes the set whole before anything is put in.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGCHLD);
    }
    loop {
        // First: the signal of its end is lost if that came before we cared.
        match waitpid(Some(program), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(status),
            Ok(None) => {}
            Err(_) => return None,
        }
        // SAFETY: the set is whole, and no details are asked for.
        if unsafe { libc::sigwaitinfo(signals.as_ptr(), std::ptr::null_mut()) } == libc::SIGTERM {
            kill_process(program, Signal::KILL).ok();
        }
    }
}

fn exit_like(status: Option<WaitStatus>) -> ! {
    let Some(status) = status else { exit(1) };
    let Some(signal) = status.terminating_signal() else { exit(status.exit_status().unwrap_or(1)) };
    // SAFETY: system calls; the set is made whole before it is used. No core is
    // written: it is not this process that failed.
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
    // SAFETY: ends the process at once: nothing of what it was copied from is
    // flushed or destroyed twice.
    unsafe { libc::_exit(code) }
}

/// Handlers that the process was copied with must not run in it.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` makes the one set whole, `sigprocmask` the other.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is whole.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// None in the child. Unlike the C library's, it runs no handlers of others.
fn fork() -> io::Result<Option<Pid>> {
    const NONE: libc::c_long = 0;
    let flags = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without flags that share anything, this copies the process as
    // fork does; each copy goes on with its own stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, NONE, NONE, NONE, NONE) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid as i32))
}

/// Closes all descriptors but `descriptor`, which becomes the first. Among them is the
/// pipe whose end tells who started us that the program runs.
fn close_all_but(descriptor: &OwnedFd) {
    // SAFETY: system calls that take no pointer. What is closed is not used any
    // more: both who call this never return.
    unsafe {
        libc::dup2(descriptor.as_raw_fd(), 0);
        if libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0) != 0 {
            close_each_descriptor();
        }
    }
}

/// For kernels before 5.9.
fn close_each_descriptor() {
    // SAFETY: as in `keep_only`; `limit` is written by the call.
    unsafe {
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) == 0 {
            for descriptor in 1..i32::try_from(limit.assume_init().rlim_cur).unwrap_or(i32::MAX) {
                libc::close(descriptor);
            }
        }
    }
}

/// What the process is called in the list of processes.
fn set_process_name(name: &std::ffi::CStr) {
    // SAFETY: the text ends with a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
