//! Reaps every process that ends below PID 1, and tells those who wait.
//!
//! A child is registered in the same step as it is forked, with no await
//! between, and reaping happens on the same thread: none is lost.

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

/// Bytes of one message of a signal descriptor.
const SIGINFO_BYTES: usize = 128;

/// Who waits for which process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiters: Arc<Mutex<HashMap<i32, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// The future end of a child that has just been forked.
    pub(crate) fn expect(&self, pid: i32) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.waiters().insert(pid, sender);
        receiver
    }

    /// Blocks SIGCHLD, opens its descriptor, and reaps from then on.
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
                // What is in the message has been merged with other signals: only that there is one counts.
                if read(&children, &mut [0; SIGINFO_BYTES]).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Reaps whatever has ended. True when there is no child left at all.
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
        // Whoever no longer waits need not be told.
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
