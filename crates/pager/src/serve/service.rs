//! The loop that waits for a clone's faults and answers them.

use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Shared;
use super::error::ServeError;
use super::figures::Figures;
use super::handshake::Handed;
use super::space::{Next, Space};
use crate::userfault::Userfault;

/// Immediate retries while no page can be installed in a clone (EAGAIN), before retries are made at
/// intervals. The kernel refuses pages between the reading of an event and the moment when the thread that
/// caused it resumes, which takes microseconds if a processor is free.
const QUICK_LOOKS: u32 = 32;
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// The fault service of one clone, on a thread of its own.
#[derive(Debug)]
pub(super) struct Service<'a> {
    userfault: Userfault<'a>,
    /// The process's pidfd.
    life: BorrowedFd<'a>,
    space: Space,
    shared: &'a Shared,
    next: Next,
    /// Consecutive retries without progress.
    blocked: u32,
    figures: Figures,
}

impl<'a> Service<'a> {
    pub(super) fn new(shared: &'a Shared, handed: &'a Handed, life: BorrowedFd<'a>) -> Self {
        let userfault = Userfault::new(&handed.descriptor);
        let space = Space::new(Arc::clone(&shared.memory), handed.layout.clone(), shared.options.around);
        let (next, figures) = (Next::More, Figures { clones: 1, ..Figures::default() });
        shared.add(figures);
        Self { userfault, life, space, shared, next, blocked: 0, figures }
    }

    /// Answers faults until the process has exited.
    pub(super) fn run(&mut self) -> Result<(), ServeError> {
        while self.goes_on()? {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits until there is something to do. Returns false when the process has exited.
    fn goes_on(&self) -> Result<bool, ServeError> {
        let mut watched =
            [PollFd::from_borrowed_fd(self.life, PollFlags::IN), self.userfault.when_readable()];
        let waited = match self.next {
            Next::More => return Ok(true),
            Next::Blocked if self.blocked <= QUICK_LOOKS => {
                thread::yield_now();
                return Ok(true);
            }
            Next::Blocked => poll(&mut watched[..1], Some(&INTERVAL)),
            Next::Gone => poll(&mut watched[..1], None),
            Next::Wait => poll(&mut watched, None),
        };
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(watched[0].revents().is_empty()),
            Err(error) => Err(ServeError::Read(error.into())),
        }
    }

    /// Reads events and answers faults; prefetches a few pages when no fault is pending.
    fn turn(&mut self) -> Result<(), ServeError> {
        self.next = match self.space.look(&self.userfault)? {
            Next::Wait => self.space.prefetch(&self.userfault, &self.shared.options.prefetch)?,
            next => next,
        };
        self.blocked = if self.next == Next::Blocked { self.blocked + 1 } else { 0 };
        self.count();
        Ok(())
    }

    /// The final counters.
    pub(super) fn close(mut self) -> Figures {
        self.count();
        self.figures
    }

    fn count(&mut self) {
        let done = mem::take(&mut self.space.figures);
        if done != Figures::default() {
            self.figures += done;
            self.shared.add(done);
        }
    }
}
