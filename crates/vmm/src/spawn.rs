//! Starts a VMM process so that it cannot outlive its supervisor.
#![allow(unsafe_code, reason = "the fence around code that runs between fork and exec")]

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

/// Lower numbers are the standard streams.
const FIRST_INHERITED_FD: u32 = 3;

/// Makes the child process die with the thread that starts it, and shields it from a terminal's signals: the
/// supervisor handles Ctrl-C.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: the closure makes a few system calls and allocates nothing, as is
    // required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Descriptors that our own parent process left open must not reach the VMM. Kernels before 5.11
            // lack this flag: there they stay open.
            libc::syscall(libc::SYS_close_range, FIRST_INHERITED_FD, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
}

/// Disables transparent huge pages in the program: TCG touches few bytes in many places, and a huge page for
/// each would cost every machine megabytes of unused memory.
pub(crate) fn disable_huge_pages(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::thread::disable_transparent_huge_pages(true)?));
    }
}

/// Has the program run in a network namespace that must contain a device of this name: a program with the
/// privileges would create a missing one. If it is missing, spawning fails with [`NO_DEVICE`].
pub(crate) fn enter_netns(command: &mut Command, namespace: Arc<OwnedFd>, device: String) {
    // SAFETY: the closure makes three system calls and allocates nothing; it owns the descriptor and the text
    // that it uses.
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

/// The error number of spawning when the device is missing.
pub(crate) const NO_DEVICE: i32 = libc::ENODEV;

/// A file to be bind-mounted over another one.
#[derive(Debug)]
pub(crate) struct BindMount {
    /// The file.
    pub(crate) source: CString,
    /// The mount point: an existing file.
    pub(crate) target: CString,
    /// Whether the mount is read-only.
    pub(crate) read_only: bool,
}

/// Bind-mounts files in a mount namespace of the program's own: no other process sees them, and they
/// disappear when the program exits.
pub(crate) fn bind_mounts(command: &mut Command, mounts: Vec<BindMount>) {
    // SAFETY: the closure makes system calls with texts that it owns, and allocates nothing.
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
