//! Reaps every process that ends, and notifies the task that waits for it.
//!
//! A child is forked and registered without an await in between, and reaping
//! happens on the same thread, so that no exit status is lost.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mimeo_agent_protocol::message::ExitStatus;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::watch::{read, watch};

/// Size of `struct signalfd_siginfo`.
const SIGINFO_BYTES: usize = 128;

/// The tasks that wait for the end of a process, by PID.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiters: Arc<Mutex<HashMap<i32, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// Registers a child that has just been forked, and returns its future exit status.
    pub(crate) fn expect(&self, pid: i32) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.waiters().insert(pid, sender);
        receiver
    }

    /// Blocks SIGCHLD, opens a signalfd for it, and starts the task that reaps.
    pub(crate) fn run(&self) -> io::Result<()> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        let children = watch(children.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        let reaper = self.clone();
        tokio::spawn(async move {
            loop {
                reaper.reap();
                // The content is ignored: one message may stand for several SIGCHLD.
                if read(&children, &mut [0; SIGINFO_BYTES]).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Reaps all children that have ended. True when there are no more children.
    pub(crate) fn reap(&self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.notify(pid, status),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn notify(&self, pid: Pid, status: WaitStatus) {
        let Some(waiter) = self.waiters().remove(&pid.as_raw_nonzero().get()) else { return };
        // The receiver may be gone.
        waiter.send(exit_status(status)).ok();
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<ExitStatus>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match status.terminating_signal() {
        Some(signal) => ExitStatus::Signal(signal),
        None => ExitStatus::Code(status.exit_status().unwrap_or_default()),
    }
}
