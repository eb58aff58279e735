//! The process at the other end of a connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;

use crate::userfault::fence;

/// How long a killed process is waited for in blocking code. It takes a millisecond, unless the process is in
/// an uninterruptible system call.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// A client process, which is killed on drop if it has not exited.
#[derive(Debug)]
pub(super) struct Peer {
    pid: u32,
    pidfd: OwnedFd,
}

impl Peer {
    /// The process that connected the stream.
    pub(super) fn from_stream(stream: &UnixStream) -> io::Result<Self> {
        let raw = stream.peer_cred()?.pid().unwrap_or(0);
        let pid = Pid::from_raw(raw).ok_or(Errno::SRCH)?;
        if pid == rustix::process::getpid() {
            return Err(Errno::PERM.into());
        }
        let pidfd = match fence::pidfd_of_peer(stream.as_fd()) {
            Err(Errno::NOPROTOOPT) => open_pidfd(stream, pid),
            result => result,
        };
        Ok(Self { pid: raw.unsigned_abs(), pidfd: pidfd? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pidfd.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends SIGKILL, and returns whether the process is killed or already dead; it is not if this process
    /// lacks the permission.
    pub(super) fn kill(&self) -> bool {
        matches!(pidfd_send_signal(&self.pidfd, Signal::KILL), Ok(()) | Err(Errno::SRCH))
    }

    /// Waits until it has exited; at most once at a time per runtime.
    async fn exited(&self) -> io::Result<()> {
        fence::register_readable(self.pidfd.as_fd())?.readable().await.map(drop)
    }

    /// Kills it and waits for its exit.
    pub(super) async fn kill_and_wait(&self) {
        if self.kill() && self.exited().await.is_err() {
            self.wait_blocking();
        }
    }

    /// Blocks until it has exited, at most for [`KILL_TIMEOUT`].
    fn wait_blocking(&self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], left.as_ref()) {
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

impl Drop for Peer {
    /// When a task is dropped, its process may still run. It must be dead before its userfaultfd is closed,
    /// or it would see unserved memory.
    fn drop(&mut self) {
        if self.kill() {
            self.wait_blocking();
        }
    }
}

/// Kernels before 6.5 give only the PID. It belongs to the client if the client still holds the connection
/// after the pidfd was opened.
fn open_pidfd(stream: &UnixStream, pid: Pid) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut state = [PollFd::new(stream, PollFlags::RDHUP)];
    match poll(&mut state, Some(&now))? {
        0 => Ok(pidfd),
        _ => Err(Errno::SRCH),
    }
}
