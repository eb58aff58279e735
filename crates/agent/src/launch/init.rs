//! The small init that a container may use: it reaps orphans, forwards
//! signals, and exits with the program's exit code.
#![allow(unsafe_code, reason = "runs between fork and exec, where only bare system calls are allowed")]

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::ptr;

use super::child::{Fault, Stage, check};

/// Forks again. Returns in the child, which executes the program. The parent
/// runs the init and never returns.
pub(super) fn fork_init(report: RawFd, terminal: bool) -> Result<(), Fault> {
    // SAFETY: sigfillset fills the set; this process has no other thread.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
    // SAFETY: a fork by its raw system call, in a process with one thread.
    let child = unsafe { libc::syscall(libc::SYS_fork) } as c_int;
    check(Stage::Init, child)?;
    if child != 0 {
        run_init(child, report);
    }
    // SAFETY: numbers only. The program leads its own process group, in the foreground of the terminal.
    unsafe {
        libc::setpgid(0, 0);
        if terminal {
            libc::tcsetpgrp(0, libc::getpid());
        }
    }
    Ok(())
}

/// The init's loop: forwards signals, reaps, and exits with the program.
fn run_init(child: c_int, report: RawFd) -> ! {
    // SAFETY: numbers and a live C string. Closes every descriptor, the report's among them, so that
    // the agent sees the program's exec, and sets the name of this process for ps.
    unsafe {
        libc::close(report);
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, c"mimeo-init".as_ptr());
    }
    loop {
        // SAFETY: the set is alive; every signal is blocked and is received here.
        let signal = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwaitinfo(&raw const all, ptr::null_mut())
        };
        if signal == libc::SIGCHLD {
            reap(child);
        } else if signal > 0 {
            // SAFETY: numbers only. The child is not reaped yet, since this process exits when it reaps it.
            unsafe { libc::kill(child, signal) };
        }
    }
}

/// Reaps all processes that have ended, and exits if the program is one of them.
fn reap(child: c_int) {
    let mut status = 0;
    loop {
        // SAFETY: the status is alive.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            pid if pid == child => {
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                };
                // SAFETY: ends this process.
                unsafe { libc::_exit(code) }
            }
            pid if pid <= 0 => return,
            _ => {}
        }
    }
}
