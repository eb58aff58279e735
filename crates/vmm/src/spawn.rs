//! Starts a monitor's process so that it cannot outlive ours.
#![allow(unsafe_code, reason = "the fence round what runs between fork and exec")]

mod warden;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

pub(crate) use warden::interpose_warden;

/// Descriptors below are the three that every program has.
const FIRST_INHERITED_FD: u32 = 3;

/// Makes the child die with the thread that starts it, and keeps a terminal's
/// signals from it: Ctrl-C is the monitor's to judge.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: the closure makes a few system calls and allocates nothing, as is
    // required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // What whoever started us left open is none of the guest's. A kernel
            // before 5.11 cannot: then it stays open.
            libc::syscall(libc::SYS_close_range, FIRST_INHERITED_FD, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
}

/// Has the program's memory come in small pages: a translator touches a little
/// of many places, and a large page for each would cost every machine megabytes
/// that hold nothing.
pub(crate) fn disable_huge_pages(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::thread::disable_transparent_huge_pages(true)?));
    }
}

/// Has the program run in a network namespace, in which there must be a device
/// of that name: a program with the right to would make it. Else it is
/// [`NO_DEVICE`] that spawning gives.
pub(crate) fn enter_netns(command: &mut Command, namespace: Arc<OwnedFd>, device: String) {
    // SAFETY: the closure makes three system calls and allocates nothing; it
    // holds the descriptor and the text that it uses.
    unsafe {
        command.pre_exec(move || {
            if libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) != 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            name_to_index(&socket, &device)?;
            Ok(())
        });
    }
}

/// What spawning gives when a device is not there.
pub(crate) const NO_DEVICE: i32 = libc::ENODEV;

/// A file that is to be seen at another file's place.
#[derive(Debug)]
pub(crate) struct BindMount {
    /// The file.
    pub(crate) source: CString,
    /// The place: a file that is there for it.
    pub(crate) target: CString,
    /// It cannot be written there.
    pub(crate) read_only: bool,
}

/// Has the program see files at other places. Nobody else sees them there, and
/// nothing of it is left when the program ends.
pub(crate) fn bind_mounts(command: &mut Command, mounts: Vec<BindMount>) {
    // SAFETY: the closure makes system calls with texts that it holds, and
    // allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(io::Error::last_os_error());
            }
            mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
            mounts.iter().try_for_each(BindMount::apply)
        });
    }
}

impl BindMount {
    /// Runs between fork and exec: makes system calls, and allocates nothing.
    fn apply(&self) -> io::Result<()> {
        mount_bind(self.source.as_c_str(), self.target.as_c_str())?;
        if self.read_only {
            let flags = MountFlags::BIND
                | MountFlags::RDONLY
                | MountFlags::NOSUID
                | MountFlags::NODEV
                | MountFlags::NOEXEC;
            mount_remount(self.target.as_c_str(), flags, c"")?;
        }
        Ok(())
    }
}
