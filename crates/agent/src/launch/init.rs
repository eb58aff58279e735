//! The small init that a container may ask for: it reaps orphans, passes
//! signals on, and ends as the program does.
#![allow(unsafe_code, reason = "runs between fork and exec, where only bare system calls are allowed")]

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::ptr;

use super::child::{Fault, Stage, check};

/// Forks once more. Returns in the child, which is to become the program; the
/// parent stays in here as init.
pub(super) fn fork_init(report: RawFd, terminal: bool) -> Result<(), Fault> {
    // SAFETY: all-one bits are the full set; nothing else runs in this process.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
    // SAFETY: a plain fork by its bare call, in a process with one thread.
    let child = unsafe { libc::syscall(libc::SYS_fork) } as c_int;
    check(Stage::Init, child)?;
    if child != 0 {
        run_init(child, report);
    }
    // SAFETY: numbers only. The program leads a group of its own, and holds the terminal.
    unsafe {
        libc::setpgid(0, 0);
        if terminal {
            libc::tcsetpgrp(0, libc::getpid());
        }
    }
    Ok(())
}

fn run_init(child: c_int, report: RawFd) -> ! {
    // SAFETY: closes every descriptor, the report's among them, so that the agent
    // sees the program's exec; names this process for those who list it.
    unsafe {
        libc::close(report);
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, c"mimeo-init".as_ptr());
    }
    loop {
        // SAFETY: the set is alive; every signal is blocked and waits here.
        let signal = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwaitinfo(&raw const all, ptr::null_mut())
        };
        if signal == libc::SIGCHLD {
            reap(child);
        } else if signal > 0 {
            // SAFETY: numbers only; the child has not been reaped, or we would have ended.
            unsafe { libc::kill(child, signal) };
        }
    }
}

/// Reaps all that has ended, and ends with the program.
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
