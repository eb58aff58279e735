//! Starts a monitor's process so that it cannot outlive ours.
#![allow(unsafe_code, reason = "the fence round what runs between fork and exec")]

use std::os::unix::process::CommandExt;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Descriptors below are the three that every program has.
const FIRST_OF_OTHERS: u32 = 3;

/// Makes the child die with the thread that starts it, and keeps a terminal's
/// signals from it: Ctrl-C is the monitor's to judge.
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: the closure makes a few system calls and allocates nothing, as is
    // required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // What whoever started us left open is none of the guest's. A kernel
            // before 5.11 cannot: then it stays open.
            libc::syscall(libc::SYS_close_range, FIRST_OF_OTHERS, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            // A translator touches a little of many places: a large page for
            // each would cost every machine megabytes that hold nothing.
            rustix::thread::disable_transparent_huge_pages(true)?;
            if getppid() != Some(parent) {
                return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
}
