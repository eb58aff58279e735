//! What the kernel reports about machines: inotify events of their directories, and the end of their supervisors.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use crate::machine::ProcessIdentity;
use crate::machine::record::FILE;

/// The token of inotify among the sources; the supervisors have those after it.
const INOTIFY: u64 = 0;
/// Events that are read at once.
const BATCH: usize = 64;
/// The buffer for inotify's events: each has at least 16 bytes and a name of 255 at most.
const BUFFER: usize = 16 << 10;

/// What has changed.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Machines whose directory, record or supervision has changed, by the names of their directories.
    pub(super) machines: BTreeSet<String>,
    /// Whether events were lost.
    pub(super) lost: bool,
}

/// The files and processes that are watched.
#[derive(Debug)]
pub(super) struct Sources {
    /// Readable when one of the others is: one registration with the runtime, however many machines there are.
    epoll: AsyncFd<OwnedFd>,
    /// Absent where the user has no inotify instance left.
    inotify: Option<OwnedFd>,
    watches: HashMap<i32, Watched>,
    supervisors: HashMap<u64, (String, OwnedFd)>,
    next_token: u64,
    /// How many watches may exist.
    max_watches: usize,
}

/// What a watch's events are about.
#[derive(Debug, Clone)]
enum Watched {
    /// The directory of all machines.
    Machines,
    /// The directory of records that could not be written to their places.
    SpareRecords,
    /// The directory of one machine.
    Machine(String),
}

/// A directory that cannot be watched.
#[derive(Debug)]
pub(super) struct Unwatched(pub(super) Errno);

impl Sources {
    pub(super) fn new(max_watches: usize) -> io::Result<Self> {
        let epoll = register(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let inotify = inotify.inspect_err(|error| {
            tracing::warn!(component = "watch", %error, "inotify is unavailable: machines are polled");
        });
        let inotify = inotify.ok();
        if let Some(inotify) = &inotify {
            epoll::add(epoll.get_ref(), inotify, EventData::new_u64(INOTIFY), EventFlags::IN)?;
        }
        let (watches, supervisors) = (HashMap::new(), HashMap::new());
        Ok(Self { epoll, inotify, watches, supervisors, next_token: INOTIFY + 1, max_watches })
    }

    pub(super) fn watch_machines(&mut self, dir: &Path) -> Result<i32, Unwatched> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        self.watch(dir, flags, Watched::Machines)
    }

    pub(super) fn watch_spare_records(&mut self, dir: &Path) -> Result<i32, Unwatched> {
        self.watch(dir, WatchFlags::MOVED_TO | WatchFlags::DELETE, Watched::SpareRecords)
    }

    /// Watches the directory of one machine: its record is always written by a rename.
    pub(super) fn watch_machine(&mut self, dir: &Path, name: &str) -> Result<i32, Unwatched> {
        self.watch(dir, WatchFlags::MOVED_TO, Watched::Machine(name.to_owned()))
    }

    fn watch(&mut self, dir: &Path, flags: WatchFlags, what: Watched) -> Result<i32, Unwatched> {
        let inotify = self.inotify.as_ref().ok_or(Unwatched(Errno::MFILE))?;
        if self.watches.len() >= self.max_watches {
            return Err(Unwatched(Errno::NOSPC));
        }
        let watch = inotify::add_watch(inotify, dir, flags | WatchFlags::ONLYDIR).map_err(Unwatched)?;
        self.watches.insert(watch, what);
        Ok(watch)
    }

    pub(super) fn unwatch(&mut self, watch: i32) {
        // The kernel has removed it if the directory is gone.
        if let (Some(_), Some(inotify)) = (self.watches.remove(&watch), &self.inotify)
            && let Err(error) = inotify::remove_watch(inotify, watch)
        {
            tracing::trace!(component = "watch", watch, %error, "the watch is gone already");
        }
    }

    #[cfg(test)]
    pub(super) fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// Watches for the end of a supervisor; returns a token for [`Sources::forget_supervisor`].
    ///
    /// # Errors
    /// If it has ended already (`ESRCH`), or cannot be watched.
    pub(super) fn watch_supervisor(&mut self, name: &str, process: &ProcessIdentity) -> io::Result<u64> {
        let pid = Pid::from_raw(process.pid as i32).ok_or(Errno::SRCH)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        // Checked after the pidfd was opened: it is the one of this very process.
        if !process.is_alive() {
            return Err(Errno::SRCH.into());
        }
        let token = self.next_token;
        epoll::add(self.epoll.get_ref(), &descriptor, EventData::new_u64(token), EventFlags::IN)?;
        self.next_token += 1;
        self.supervisors.insert(token, (name.to_owned(), descriptor));
        Ok(token)
    }

    /// Closing the descriptor removes it from the set.
    pub(super) fn forget_supervisor(&mut self, token: u64) {
        self.supervisors.remove(&token);
    }

    /// Waits for events. Safe to cancel.
    pub(super) async fn next(&mut self) -> Events {
        let ready = self.epoll.readable().await.map(|mut ready| ready.clear_ready());
        if ready.is_err() {
            // The runtime shuts down.
            return std::future::pending().await;
        }
        // After readiness was cleared: what comes from now on makes it ready again.
        let mut events = Events::default();
        let mut tokens = Vec::with_capacity(BATCH);
        loop {
            tokens.clear();
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let count = epoll::wait(self.epoll.get_ref(), spare_capacity(&mut tokens), Some(&none));
            if count.unwrap_or(0) == 0 {
                return events;
            }
            for event in &tokens {
                self.read(event.data.u64(), &mut events);
            }
        }
    }

    fn read(&mut self, token: u64, events: &mut Events) {
        if token == INOTIFY {
            self.read_inotify(events);
        } else if let Some((name, _)) = self.supervisors.remove(&token) {
            events.machines.insert(name);
        }
    }

    fn read_inotify(&mut self, events: &mut Events) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy());
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                events.lost = true;
                continue;
            }
            let watched = self.watches.get(&event.wd());
            events.machines.extend(watched.and_then(|watched| watched.machine(name.as_deref())));
            if event.events().contains(ReadFlags::IGNORED)
                && let Some(gone) = self.watches.remove(&event.wd())
            {
                // The directory is gone, or was replaced by another one.
                events.lost |= !matches!(gone, Watched::Machine(_));
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe, for types that may close their descriptor early; an OwnedFd does not"
)]
fn register(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(epoll)
}

impl Watched {
    /// The machine that an event about the file `name` is about.
    fn machine(&self, name: Option<&str>) -> Option<String> {
        match (self, name) {
            (Self::Machines, Some(name)) => Some(name.to_owned()),
            (Self::SpareRecords, Some(name)) => name.strip_suffix(".json").map(str::to_owned),
            (Self::Machine(machine), Some(name)) if name == FILE => Some(machine.clone()),
            _ => None,
        }
    }
}
