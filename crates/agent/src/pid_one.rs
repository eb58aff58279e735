//! PID 1. It forks the agent and waits: only PID 1 can become the init of a whole system.
#![allow(
    unsafe_code,
    reason = "fork, signal and execve have no safe form; here they run in a process with one thread"
)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use mimeo_agent_protocol::message::Failure;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, mount_move, unmount};
use rustix::process::{chdir, pivot_root};

use crate::blocking::run_blocking;
use crate::console::log_last;
use crate::failure::{Context, SystemError, chain, failure};
use crate::rootfs::ROOT;
use crate::shutdown::power_off;

/// The filesystems of the kernel's that a whole system finds mounted, as after any initramfs.
const KERNEL_FILESYSTEMS: [&str; 3] = ["dev", "proc", "sys"];
/// The environment that the kernel gives its init.
const ENVIRONMENT: [&CStr; 2] = [c"HOME=/", c"TERM=linux"];
/// Longest path of an init.
const MAX_PATH: usize = libc::PATH_MAX as usize;

/// The agent's connection to PID 1.
#[derive(Debug)]
pub(crate) struct PidOne {
    socket: UnixStream,
}

/// Forks. Returns in the child, which is the agent. When it ends, PID 1 powers the machine off.
pub(crate) fn fork_agent() -> Result<PidOne, SystemError> {
    let (socket, agents_socket) = UnixStream::pair().context("create a socket")?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(SystemError::new("fork the agent", io::Error::last_os_error())),
        0 => {
            drop(socket);
            Ok(PidOne { socket: agents_socket })
        }
        _ => {
            drop(agents_socket);
            wait(socket)
        }
    }
}

impl PidOne {
    /// Makes PID 1 the init of the system that is mounted at [`ROOT`]: it executes the program at this path of it.
    pub(crate) async fn become_init(&self, program: &str) -> Result<(), Failure> {
        let mut socket = self.socket.try_clone().context("use the connection to PID 1")?;
        let program = program.to_owned();
        run_blocking(move || {
            write_message(&mut socket, program.as_bytes()).context("ask PID 1")?;
            match read_message(&mut socket) {
                // The exec has closed the connection.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Ok(why) => {
                    let message = String::from_utf8_lossy(&why).into_owned();
                    Err(failure(mimeo_agent_protocol::message::FailureKind::System, message))
                }
                Err(error) => Err(SystemError::new("ask PID 1", error).into()),
            }
        })
        .await
    }
}

/// Waits until the agent asks for an init. When the agent ends, so does the machine.
fn wait(mut socket: UnixStream) -> ! {
    // SAFETY: takes numbers. Ignored, children that have ended vanish.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    while let Ok(program) = read_message(&mut socket) {
        let Err(error) = become_init(program);
        // The agent may be gone, and then there is no next request.
        write_message(&mut socket, chain(&error).as_bytes()).ok();
    }
    log_last("fatal: the agent has ended");
    power_off();
    loop {
        // The kernel cannot power off, and panics if PID 1 ends.
        std::thread::park();
    }
}

/// Executes the init with the mounted system as its root, in a mount namespace that is not the agent's.
fn become_init(program: Vec<u8>) -> Result<Infallible, SystemError> {
    let program = CString::new(program).context("read the path of the init")?;
    unshare(CloneFlags::CLONE_NEWNS).context("create a mount namespace")?;
    chdir(ROOT).context("enter the system's root")?;
    for name in KERNEL_FILESYSTEMS {
        mount_move(format!("/{name}"), name).context(format!("move /{name} to the system"))?;
    }
    pivot_root(".", ".").context("change the root")?;
    // The old root is mounted over the new one now.
    unmount(".", UnmountFlags::DETACH).context("unmount the old root")?;
    chdir("/").context("enter the new root")?;
    // SAFETY: takes numbers. Signals that are ignored stay so in an exec.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    let arguments = [program.as_ptr(), std::ptr::null()];
    let environment = [ENVIRONMENT[0].as_ptr(), ENVIRONMENT[1].as_ptr(), std::ptr::null()];
    // SAFETY: all strings and both arrays, with their nulls, are alive.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    let error = io::Error::last_os_error();
    Err(SystemError::new(format!("execute {}", program.to_string_lossy()), error))
}

fn write_message(socket: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    socket.write_all(&[&length.to_ne_bytes(), message].concat())
}

fn read_message(socket: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_ne_bytes(length) as usize;
    if length > MAX_PATH {
        return Err(io::Error::other("the message is too long"));
    }
    let mut message = vec![0; length];
    socket.read_exact(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_an_end_is_no_message() {
        let (mut one, mut other) = UnixStream::pair().expect("a pair");
        write_message(&mut one, b"/sbin/init").expect("written");
        write_message(&mut one, b"").expect("written");
        one.write_all(&u32::MAX.to_ne_bytes()).expect("written");
        assert_eq!(read_message(&mut other).expect("read"), b"/sbin/init");
        assert_eq!(read_message(&mut other).expect("read"), b"");
        assert!(read_message(&mut other).is_err());
        drop(one);
        assert_eq!(read_message(&mut other).expect_err("ended").kind(), io::ErrorKind::UnexpectedEof);
    }
}
