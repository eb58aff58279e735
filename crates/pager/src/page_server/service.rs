//! The loop that waits for a clone's faults and answers them.

use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Shared;
use super::counters::Counters;
use super::error::ServeError;
use super::handshake::Handshake;
use super::space::{AddressSpace, Next};
use crate::userfault::Userfault;

/// Immediate retries while no page can be installed in a clone (EAGAIN), before retries are made at
/// intervals. The kernel refuses pages between the reading of an event and the moment when the thread that
/// caused it resumes, which takes microseconds if a processor is free.
const IMMEDIATE_RETRIES: u32 = 32;
const RETRY_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// The fault service of one clone, on a thread of its own.
#[derive(Debug)]
pub(super) struct Service<'a> {
    userfault: Userfault<'a>,
    /// The process's pidfd.
    pidfd: BorrowedFd<'a>,
    space: AddressSpace,
    shared: &'a Shared,
    next: Next,
    /// Consecutive retries without progress.
    blocked: u32,
    counters: Counters,
}

impl<'a> Service<'a> {
    pub(super) fn new(shared: &'a Shared, handshake: &'a Handshake, pidfd: BorrowedFd<'a>) -> Self {
        let userfault = Userfault::new(&handshake.descriptor);
        let space = AddressSpace::new(
            Arc::clone(&shared.memory),
            handshake.layout.clone(),
            shared.options.fault_around,
        );
        let (next, counters) = (Next::More, Counters { clones: 1, ..Counters::default() });
        shared.add(counters);
        Self { userfault, pidfd, space, shared, next, blocked: 0, counters }
    }

    /// Answers faults until the process has exited.
    pub(super) fn run(&mut self) -> Result<(), ServeError> {
        while self.wait()? {
            self.step()?;
        }
        Ok(())
    }

    /// Waits until there is something to do. Returns false when the process has exited.
    fn wait(&self) -> Result<bool, ServeError> {
        let mut watched =
            [PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN), self.userfault.when_readable()];
        let polled = match self.next {
            Next::More => return Ok(true),
            Next::Blocked if self.blocked <= IMMEDIATE_RETRIES => {
                thread::yield_now();
                return Ok(true);
            }
            Next::Blocked => poll(&mut watched[..1], Some(&RETRY_INTERVAL)),
            Next::Gone => poll(&mut watched[..1], None),
            Next::Wait => poll(&mut watched, None),
        };
        match polled {
            Ok(_) | Err(Errno::INTR) => Ok(watched[0].revents().is_empty()),
            Err(error) => Err(ServeError::Read(error.into())),
        }
    }

    /// Reads events and answers faults; prefetches a few pages when no fault is pending.
    fn step(&mut self) -> Result<(), ServeError> {
        self.next = match self.space.handle_messages(&self.userfault)? {
            Next::Wait => self.space.prefetch(&self.userfault, &self.shared.options.prefetch)?,
            next => next,
        };
        self.blocked = if self.next == Next::Blocked { self.blocked + 1 } else { 0 };
        self.flush_counters();
        Ok(())
    }

    /// The final counters.
    pub(super) fn into_counters(mut self) -> Counters {
        self.flush_counters();
        self.counters
    }

    fn flush_counters(&mut self) {
        let done = mem::take(&mut self.space.counters);
        if done != Counters::default() {
            self.counters += done;
            self.shared.add(done);
        }
    }
}
