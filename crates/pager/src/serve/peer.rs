//! The process at the other end of a connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;

use crate::userfault::fence;

/// How long a process that was killed is waited for where nothing else may happen. It takes a millisecond,
/// unless it is in a call that cannot be broken off.
const DYING: Duration = Duration::from_secs(1);

/// A process, which is ended when this is dropped and it has not ended before.
#[derive(Debug)]
pub(super) struct Peer {
    pid: u32,
    life: OwnedFd,
}

impl Peer {
    /// Who has connected.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let told = stream.peer_cred()?.pid().unwrap_or(0);
        let pid = Pid::from_raw(told).ok_or(Errno::SRCH)?;
        if pid == rustix::process::getpid() {
            return Err(Errno::PERM.into());
        }
        let pidfd = match fence::pidfd_of_peer(stream.as_fd()) {
            Err(Errno::NOPROTOOPT) => by_number(stream, pid),
            result => result,
        };
        Ok(Self { pid: told.unsigned_abs(), life: pidfd? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pidfd.
    pub(super) fn life(&self) -> BorrowedFd<'_> {
        self.life.as_fd()
    }

    /// Has the kernel end it, and says whether it will, or has before: it does not if the process is not ours to end.
    pub(super) fn kill(&self) -> bool {
        matches!(pidfd_send_signal(&self.life, Signal::KILL), Ok(()) | Err(Errno::SRCH))
    }

    /// Until it has ended; not twice at a time on one runtime.
    async fn ended(&self) -> io::Result<()> {
        fence::watch(self.life.as_fd())?.readable().await.map(drop)
    }

    /// Ends it.
    pub(super) async fn end(&self) {
        if self.kill() && self.ended().await.is_err() {
            self.wait();
        }
    }

    /// Waits until it has ended, where nothing else may happen meanwhile.
    fn wait(&self) {
        let deadline = Instant::now() + DYING;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.life, PollFlags::IN)], left.as_ref()) {
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

impl Drop for Peer {
    /// Where a task was given up it has not ended yet: whatever of its memory is closed after this must have nobody who
    /// could look at it.
    fn drop(&mut self) {
        if self.kill() {
            self.wait();
        }
    }
}

/// Kernels before 6.5 tell a number only. It is that of the process that connected if that still holds the connection
/// after its number was looked up.
fn by_number(stream: &UnixStream, pid: Pid) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut state = [PollFd::new(stream, PollFlags::RDHUP)];
    match poll(&mut state, Some(&now))? {
        0 => Ok(pidfd),
        _ => Err(Errno::SRCH),
    }
}
