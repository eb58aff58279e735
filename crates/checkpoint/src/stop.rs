//! Stops all threads of a process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::error::{CheckpointError, step};
use crate::fence::{self, Tid};
use crate::procfs;
use crate::tracee::wait_for_stop;

/// A traced process. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct StoppedProcess {
    pid: Tid,
    /// The main thread is first.
    threads: Vec<Tid>,
}

/// Attempts to stop the process while it holds no lock.
const ATTEMPTS: u32 = 7;
/// Time before the second attempt; it doubles from one attempt to the next. A lock is held for microseconds, unless a
/// thread waits while holding it. But on a busy host the thread may not have run at all within a millisecond.
const FIRST_RETRY_INTERVAL: Duration = Duration::from_millis(1);

impl StoppedProcess {
    pub(crate) fn new(pid: Tid) -> Self {
        Self { pid, threads: Vec::new() }
    }

    /// The main thread is first.
    pub(crate) fn threads(&self) -> &[Tid] {
        &self.threads
    }

    /// Stops all threads while none holds a lock, if an attempt finds such a moment; otherwise as they are.
    /// `find_locks` lists the held locks.
    pub(crate) fn stop_unlocked<T>(
        &mut self,
        find_locks: impl Fn(&[Tid]) -> Result<Vec<T>, CheckpointError>,
    ) -> Result<Vec<T>, CheckpointError> {
        for attempt in 1..ATTEMPTS {
            self.stop()?;
            // A lock that cannot be restored may be released soon, too.
            if matches!(find_locks(&self.threads), Ok(locks) if locks.is_empty()) {
                return Ok(Vec::new());
            }
            self.resume();
            std::thread::sleep(FIRST_RETRY_INTERVAL * (1 << (attempt - 1)));
        }
        self.stop()?;
        find_locks(&self.threads)
    }

    fn stop(&mut self) -> Result<(), CheckpointError> {
        let mut known = std::mem::take(&mut self.threads).into_iter();
        while let Some(tid) = known.next() {
            if let Err(error) = self.stop_one(tid, interrupt(tid)) {
                self.threads.extend(known);
                return Err(error);
            }
        }
        let mut ended = Vec::new();
        // A thread may start others until it stops or exits.
        loop {
            let is_new = |tid: &Tid| !self.threads.contains(tid) && !ended.contains(tid);
            let new: Vec<Tid> = read_tids(self.pid)?.into_iter().filter(is_new).collect();
            if new.is_empty() {
                return Ok(());
            }
            for tid in new {
                let requested = seize(self.pid, tid);
                if !self.stop_one(tid, requested)? {
                    ended.push(tid);
                }
            }
        }
    }

    /// Waits for a thread that was asked to stop. Gives whether it stopped: a thread may exit at any time.
    /// The exit of the main thread is the end of the process, and an error.
    fn stop_one(
        &mut self,
        tid: Tid,
        requested: Result<(), CheckpointError>,
    ) -> Result<bool, CheckpointError> {
        match requested.and_then(|()| wait_for_interrupt(tid)) {
            Ok(()) => {
                self.threads.push(tid);
                Ok(true)
            }
            Err(CheckpointError::Ended) if tid != self.pid => Ok(false),
            Err(error) => {
                // It must be reaped even so when the process is killed.
                self.threads.push(tid);
                Err(error)
            }
        }
    }

    fn resume(&self) {
        for tid in &self.threads {
            // A thread that was killed meanwhile is detected at the next stop.
            fence::resume(*tid).ok();
        }
    }
}

/// Traces a thread and asks it to stop.
fn seize(pid: Tid, tid: Tid) -> Result<(), CheckpointError> {
    match fence::seize(tid) {
        Ok(()) => interrupt(tid),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(CheckpointError::Ended),
        // The kernel gives EPERM both for a thread that is exiting and for one that may not be traced.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_ending(pid, tid) => {
            Err(CheckpointError::Ended)
        }
        Err(error) => Err(step("trace the process")(error)),
    }
}

fn interrupt(tid: Tid) -> Result<(), CheckpointError> {
    match fence::interrupt(tid) {
        // It has exited or is exiting: the wait will show it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EIO)) => Ok(()),
        result => result.map_err(step("stop the process")),
    }
}

/// Whether a thread is gone or a zombie.
fn is_ending(pid: Tid, tid: Tid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")) else { return true };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Waits for the stop that was asked for. An earlier stop is the delivery of a signal, which is passed on.
fn wait_for_interrupt(tid: Tid) -> Result<(), CheckpointError> {
    loop {
        match wait_for_stop(tid)? {
            (_, PTRACE_EVENT_STOP) => return Ok(()),
            (signal, 0) => fence::resume_with_signal(tid, signal).map_err(step("resume the process"))?,
            _ => fence::resume(tid).map_err(step("resume the process"))?,
        }
    }
}

/// The event of a stop that was asked for; libc does not define it.
const PTRACE_EVENT_STOP: i32 = 128;

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            // This fails only if the process has exited already.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        // The parent can reap the process when the tracer has reaped all its other threads; the main thread
        // is left for the parent.
        for tid in self.threads.iter().filter(|tid| **tid != self.pid) {
            while matches!(fence::wait(*tid), Ok(fence::Waited::Stopped { .. })) {}
        }
    }
}

fn read_tids(pid: Tid) -> Result<Vec<Tid>, CheckpointError> {
    let mut tids = procfs::numeric_entries(Path::new(&format!("/proc/{pid}/task")))?;
    tids.sort_by_key(|tid| (*tid != pid, *tid));
    Ok(tids)
}
