//! The inodes that a guest's kernel knows.
//!
//! Each is recorded with its parent, its name and its identity on the host. An
//! `O_PATH` descriptor is held for those in use. When there are too many, the
//! one that was idle longest is closed, and opened again by its name when it is
//! needed. A file that the guest unlinked cannot be opened again, so its
//! descriptor is held until the guest forgets the inode.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::limits::{Limits, STABLE_AFTER};

/// The shared directory itself.
pub(super) const ROOT: u64 = 1;
/// Maximum number of directories between a file and the root. Renames on the host could make the
/// recorded parents a loop.
pub(super) const MAX_DEPTH: usize = 2048;

/// A file's identity on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    device: u64,
    inode: u64,
}

impl From<&Stat> for Key {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// Size and times of a file, which change whenever its content does.
type ContentStamp = [i64; 4];

#[derive(Debug)]
pub(super) struct Inodes {
    root: Arc<OwnedFd>,
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<u64, Node>,
    ids: HashMap<Key, u64>,
    /// The last id; ids are never reused.
    last: u64,
    /// Nodes with a descriptor, those idle for longest first.
    held: VecDeque<u64>,
}

#[derive(Debug)]
struct Node {
    key: Key,
    /// How often the guest's kernel looked it up, minus how often it forgot it.
    lookups: u64,
    parent: u64,
    name: CString,
    fd: Option<Arc<OwnedFd>>,
    /// Used since the last search for idle descriptors.
    used: bool,
    /// Its recorded name was removed.
    unlinked: bool,
    /// The state of the content that the guest may have cached.
    opened_content: Option<ContentStamp>,
}

/// How an inode is reached.
#[derive(Debug)]
enum Location {
    /// By a descriptor.
    Held(Arc<OwnedFd>),
    /// By its name.
    Closed(ClosedEntry),
}

/// An inode without a descriptor.
#[derive(Debug)]
struct ClosedEntry {
    id: u64,
    key: Key,
    parent: u64,
    name: CString,
}

impl Inodes {
    pub(super) fn new(root: OwnedFd, limits: Limits) -> Self {
        let table = Table { last: ROOT, ..Table::default() };
        Self { root: Arc::new(root), limits, table: Mutex::new(table) }
    }

    /// An `O_PATH` descriptor of the inode.
    pub(super) fn fd(&self, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        // This is a loop, since the threads have small stacks.
        let (mut closed, mut next) = (Vec::new(), id);
        let mut fd = loop {
            match self.locate(next)? {
                Location::Held(fd) => break fd,
                Location::Closed(_) if closed.len() > MAX_DEPTH => return Err(Errno::LOOP),
                Location::Closed(entry) => {
                    next = entry.parent;
                    closed.push(entry);
                }
            }
        };
        while let Some(entry) = closed.pop() {
            fd = self.reopen(&fd, &entry)?;
        }
        Ok(fd)
    }

    fn locate(&self, id: u64) -> Result<Location, Errno> {
        if id == ROOT {
            return Ok(Location::Held(self.root.clone()));
        }
        match self.table().nodes.get_mut(&id) {
            None => Err(Errno::STALE),
            Some(Node { fd: Some(fd), used, .. }) => {
                *used = true;
                Ok(Location::Held(fd.clone()))
            }
            Some(Node { key, parent, name, .. }) => {
                Ok(Location::Closed(ClosedEntry { id, key: *key, parent: *parent, name: name.clone() }))
            }
        }
    }

    /// Opens an inode by its name, unless that leads to another one now.
    fn reopen(&self, parent: &OwnedFd, entry: &ClosedEntry) -> Result<Arc<OwnedFd>, Errno> {
        let (fd, stat) = open_entry(parent, &entry.name)?;
        if Key::from(&stat) != entry.key {
            return Err(Errno::STALE);
        }
        self.table().hold_fd(entry.id, Arc::new(fd), self.limits.held_fds)
    }

    /// Finds an entry of a directory, and counts a lookup by the guest.
    pub(super) fn look_up(&self, parent: u64, name: &CStr) -> Result<(u64, Stat), Errno> {
        let directory = self.fd(parent)?;
        let (fd, stat) = open_entry(&directory, name)?;
        Ok((self.remember(parent, name, fd, &stat)?, stat))
    }

    /// Counts a lookup of the file at `name`, which `fd` refers to, and returns its id.
    pub(super) fn remember(&self, parent: u64, name: &CStr, fd: OwnedFd, stat: &Stat) -> Result<u64, Errno> {
        let mut table = self.table();
        let id = table.count_lookup(Key::from(stat), self.limits.known_inodes)?;
        table.set_location(id, parent, name);
        if let Err(error) = table.hold_fd(id, Arc::new(fd), self.limits.held_fds) {
            table.forget(id, 1);
            return Err(error);
        }
        Ok(id)
    }

    /// Subtracts lookups that the guest forgot.
    pub(super) fn forget(&self, id: u64, count: u64) {
        self.table().forget(id, count);
    }

    /// Forgets all inodes.
    pub(super) fn forget_all(&self) {
        let mut table = self.table();
        let last = table.last;
        *table = Table { last, ..Table::default() };
    }

    /// Holds a descriptor of the inode at `name`, if the guest knows it, before
    /// that name is removed. Afterwards the caller passes the result to
    /// [`Inodes::mark_unlinked`] or [`Inodes::set_location`].
    pub(super) fn hold_known_entry(
        &self,
        parent: &OwnedFd,
        name: &CStr,
    ) -> Result<Option<(u64, Arc<OwnedFd>)>, Errno> {
        let (fd, stat) = open_entry(parent, name)?;
        let mut table = self.table();
        match table.ids.get(&Key::from(&stat)).copied() {
            Some(id) => Ok(Some((id, table.hold_fd(id, Arc::new(fd), self.limits.held_fds)?))),
            None => Ok(None),
        }
    }

    /// Records that the name of an inode was removed. If the inode was last found by another name, it can be opened
    /// again by that one.
    pub(super) fn mark_unlinked(&self, (id, fd): (u64, Arc<OwnedFd>), parent: u64, name: &CStr) {
        let mut table = self.table();
        let Some(node) = table.nodes.get_mut(&id).filter(|node| node.is_at(parent, name)) else { return };
        node.unlinked = true;
        if node.fd.is_none() {
            node.fd = Some(fd);
            table.held.push_back(id);
        }
    }

    /// Records that the inode has no name.
    pub(super) fn mark_unnamed(&self, id: u64) {
        if let Some(node) = self.table().nodes.get_mut(&id) {
            node.unlinked = true;
        }
    }

    /// Records the new name of an inode.
    pub(super) fn set_location(&self, id: u64, parent: u64, name: &CStr) {
        self.table().set_location(id, parent, name);
    }

    /// Records the state of the content at an open; returns whether it is
    /// certainly unchanged since the guest's last open.
    pub(super) fn record_open(&self, id: u64, stat: &Stat) -> bool {
        let stamp = [stat.st_size, stat.st_mtime, stat.st_mtime_nsec as i64, stat.st_ctime_nsec as i64];
        let recorded = is_stable(stat).then_some(stamp);
        match self.table().nodes.get_mut(&id) {
            Some(node) => std::mem::replace(&mut node.opened_content, recorded) == Some(stamp),
            None => false,
        }
    }

    /// How many inodes the guest knows.
    #[cfg(test)]
    pub(super) fn known_count(&self) -> usize {
        self.table().nodes.len()
    }

    /// How many descriptors are held.
    #[cfg(test)]
    pub(super) fn held_count(&self) -> usize {
        self.table().nodes.values().filter(|node| node.fd.is_some()).count()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics with the lock held, and a panic would leave the table consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Counts a lookup of a file and returns its id, which is new if the guest does not know the file.
    fn count_lookup(&mut self, key: Key, known: usize) -> Result<u64, Errno> {
        if let Some(id) = self.ids.get(&key)
            && let Some(node) = self.nodes.get_mut(id)
        {
            node.lookups = node.lookups.saturating_add(1);
            return Ok(*id);
        }
        if self.nodes.len() >= known {
            return Err(Errno::NFILE);
        }
        self.last += 1;
        self.ids.insert(key, self.last);
        self.nodes.insert(self.last, Node::new(key));
        Ok(self.last)
    }

    fn set_location(&mut self, id: u64, parent: u64, name: &CStr) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.unlinked = false;
        node.parent = parent;
        if node.name.as_c_str() != name {
            node.name = name.to_owned();
        }
    }

    /// Holds `fd` for the node, unless there is one already.
    fn hold_fd(&mut self, id: u64, fd: Arc<OwnedFd>, limit: usize) -> Result<Arc<OwnedFd>, Errno> {
        match self.nodes.get_mut(&id) {
            // The guest forgot it meanwhile: the caller uses `fd` once.
            None => return Ok(fd),
            Some(Node { fd: Some(held), used, .. }) => {
                *used = true;
                return Ok(held.clone());
            }
            Some(_) => {}
        }
        self.evict_idle(limit)?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.fd = Some(fd.clone());
            self.held.push_back(id);
        }
        Ok(fd)
    }

    /// Closes the descriptors that were idle longest, while there are too many.
    fn evict_idle(&mut self, limit: usize) -> Result<(), Errno> {
        // Two passes find any that may be closed: the first clears their `used` marks.
        for _ in 0..=2 * self.held.len() {
            if self.held.len() < limit {
                return Ok(());
            }
            self.close_idle();
        }
        Err(Errno::NFILE)
    }

    fn close_idle(&mut self) {
        let Some(id) = self.held.pop_front() else { return };
        match self.nodes.get_mut(&id) {
            None => {}
            Some(node) if node.unlinked || node.used => {
                node.used = false;
                self.held.push_back(id);
            }
            Some(node) => node.fd = None,
        }
    }

    fn forget(&mut self, id: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return;
        }
        self.ids.remove(&node.key);
        self.nodes.remove(&id);
        self.trim();
    }

    /// Drops the entries of forgotten inodes once they are most of the queue.
    fn trim(&mut self) {
        if self.held.len() > 2 * self.nodes.len() + 64 {
            self.held.retain(|id| self.nodes.contains_key(id));
        }
    }
}

impl Node {
    /// Whether this is where the inode was last found.
    fn is_at(&self, parent: u64, name: &CStr) -> bool {
        self.parent == parent && self.name.as_c_str() == name
    }

    fn new(key: Key) -> Self {
        Self {
            key,
            lookups: 1,
            parent: ROOT,
            name: CString::default(),
            fd: None,
            used: false,
            unlinked: false,
            opened_content: None,
        }
    }
}

/// Whether the last change of a file is so old that the next one will have another time. A clock that was set back
/// makes files unstable, which costs time only.
fn is_stable(stat: &Stat) -> bool {
    let now = clock_gettime(ClockId::Realtime);
    let age = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
        - i128::from(stat.st_ctime) * 1_000_000_000
        - i128::from(stat.st_ctime_nsec);
    age >= STABLE_AFTER.as_nanos() as i128
}

/// Opens `name` with `O_PATH`, without following a symbolic link.
pub(super) fn open_entry(directory: &OwnedFd, name: &CStr) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}
