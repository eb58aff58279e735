//! Watches the machines of a home: for a process that lives long and shows what other processes do.

mod sources;
mod stamp;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, sleep_until};

use super::registry::is_unfinished;
use super::{Found, MachineId, ProcessIdentity, Registry, spare};
use crate::cause::chain;
use crate::ignored::LogIgnored;
use sources::{Events, Sources, Unwatched};
use stamp::Stamp;

/// Interval between two comparisons of all machines with what was seen, in case that an event is missing.
const SAFETY_INTERVAL: Duration = Duration::from_secs(60);
/// The same while a machine cannot be watched, because a limit of the host is reached.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A machine that has changed.
#[derive(Debug)]
pub struct Change {
    /// The first 12 digits of its id.
    pub short_id: String,
    /// Its id, if its record was ever read.
    pub id: Option<MachineId>,
    /// The machine as it is now; `None` if it was removed, or its record cannot be read.
    pub machine: Option<Found>,
}

/// A stream of changes of machines. It begins with all machines.
#[derive(Debug)]
pub struct Watcher {
    registry: Registry,
    sources: Sources,
    seen: HashMap<String, Seen>,
    /// Machines to look at.
    pending: BTreeSet<String>,
    rescan_at: Instant,
    has_warned: bool,
}

/// What is known of a machine.
#[derive(Debug, Default)]
struct Seen {
    id: Option<MachineId>,
    stamp: Stamp,
    watch: Option<i32>,
    supervisor: Option<(ProcessIdentity, u64)>,
    /// Whether it has a supervisor whose end is only noticed by polling.
    is_supervisor_unwatched: bool,
}

impl Registry {
    /// Watches all machines of this home. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// If the process has no file descriptors left. Where only inotify is at its limit, machines are polled.
    pub fn watch(&self) -> io::Result<Watcher> {
        Watcher::new(self.clone(), usize::MAX)
    }
}

impl Watcher {
    fn new(registry: Registry, max_watches: usize) -> io::Result<Self> {
        let sources = Sources::new(max_watches)?;
        let (seen, pending) = (HashMap::new(), BTreeSet::new());
        let mut this =
            Self { registry, sources, seen, pending, rescan_at: Instant::now(), has_warned: false };
        this.watch_homes();
        this.rescan();
        Ok(this)
    }

    /// Waits for the next change. Several changes of a machine may be reported as one. Safe to cancel.
    pub async fn next(&mut self) -> Change {
        loop {
            while let Some(name) = self.pending.pop_first() {
                if let Some(change) = self.look_at(name) {
                    return change;
                }
            }
            tokio::select! {
                events = self.sources.next() => self.handle(events),
                () = sleep_until(self.rescan_at) => self.rescan(),
            }
        }
    }

    fn handle(&mut self, events: Events) {
        self.pending.extend(events.machines.into_iter().filter(|name| !is_unfinished(Path::new(name))));
        if events.lost {
            self.watch_homes();
            self.rescan();
        }
    }

    /// Watches the directories of all machines. A directory that is watched already is not watched twice.
    fn watch_homes(&mut self) {
        let home = self.registry.home();
        let (machines, records) = (home.machines(), spare::dir(home));
        // The first record that cannot be written to its place makes it otherwise. Without it, such records are found later.
        fs::create_dir_all(&records).log_ignored("create", &records);
        let results = [self.sources.watch_machines(&machines), self.sources.watch_spare_records(&records)];
        for failed in results.into_iter().filter_map(Result::err) {
            self.poll(&failed);
        }
    }

    /// Compares all machines with what was seen of them.
    fn rescan(&mut self) {
        self.rescan_at = Instant::now() + SAFETY_INTERVAL;
        let existing = match self.registry.dir_names() {
            Ok(existing) => existing,
            Err(error) => {
                tracing::warn!(component = "watch", error = chain(&error), "cannot look for changes");
                return;
            }
        };
        let is_gone = |name: &&String| !existing.contains(*name);
        self.pending.extend(self.seen.keys().filter(is_gone).cloned());
        for name in existing {
            match self.seen.get(&name) {
                Some(seen) if seen.stamp == Stamp::read(self.registry.home(), &name) => {
                    self.keep_polling(&name);
                }
                _ => drop(self.pending.insert(name)),
            }
        }
    }

    /// Polls a machine again that could not be watched, unless it can be now.
    fn keep_polling(&mut self, name: &str) {
        let Some(seen) = self.seen.get(name) else { return };
        let (is_polled, is_watched) = (seen.is_supervisor_unwatched, seen.watch.is_some());
        if is_polled {
            self.rescan_soon();
        }
        if !is_watched {
            self.watch(name);
        }
    }

    /// Reads a machine, and watches it from then on. `None` if it did not exist before either.
    fn look_at(&mut self, name: String) -> Option<Change> {
        // In this order: what changes after the machine was read is reported as the next change.
        self.watch(&name);
        let stamp = Stamp::read(self.registry.home(), &name);
        if !stamp.exists() {
            return self.forget(name);
        }
        let machine = self.registry.read_named(&name);
        let seen = self.seen.entry(name.clone()).or_default();
        seen.stamp = stamp;
        if let Some(machine) = &machine {
            seen.id = Some(machine.record.id.clone());
        }
        let id = seen.id.clone();
        self.watch_supervisor(&name, machine.as_ref());
        Some(Change { short_id: name, id, machine })
    }

    fn forget(&mut self, name: String) -> Option<Change> {
        let seen = self.seen.remove(&name)?;
        if let Some(watch) = seen.watch {
            self.sources.unwatch(watch);
        }
        if let Some((_, token)) = seen.supervisor {
            self.sources.forget_supervisor(token);
        }
        // A directory that vanished before it was read was never reported.
        seen.stamp.exists().then_some(Change { short_id: name, id: seen.id, machine: None })
    }

    /// Watches the machine's directory. One that is watched already is not watched twice; a new one of the same name is.
    fn watch(&mut self, name: &str) {
        let dir = self.registry.home().machines().join(name);
        match self.sources.watch_machine(&dir, name) {
            Ok(watch) => {
                let previous = self.seen.entry(name.to_owned()).or_default().watch.replace(watch);
                if let Some(previous) = previous.filter(|previous| *previous != watch) {
                    self.sources.unwatch(previous);
                }
            }
            // It is gone.
            Err(Unwatched(Errno::NOENT | Errno::NOTDIR)) => {}
            Err(failed) => self.poll(&failed),
        }
    }

    /// Watches for the end of the supervisor of a live machine, instead of one that it had before.
    fn watch_supervisor(&mut self, name: &str, machine: Option<&Found>) {
        let live = machine.filter(|machine| machine.supervised && machine.record.phase().is_live());
        let process = live.map(|machine| &machine.record.supervisor);
        let Some(seen) = self.seen.get_mut(name) else { return };
        if seen.supervisor.as_ref().map(|(watched, _)| watched) == process {
            return;
        }
        if let Some((_, token)) = seen.supervisor.take() {
            self.sources.forget_supervisor(token);
        }
        seen.is_supervisor_unwatched = false;
        let Some(process) = process else { return };
        match self.sources.watch_supervisor(name, process) {
            Ok(token) => seen.supervisor = Some((process.clone(), token)),
            Err(error) => {
                seen.is_supervisor_unwatched = true;
                // One that has ended just now is about to release its lock.
                if Errno::from_io_error(&error) != Some(Errno::SRCH) {
                    return self.poll(&Unwatched(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
                self.rescan_soon();
            }
        }
    }

    /// Falls back to polling, and says so once.
    fn poll(&mut self, failed: &Unwatched) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let hint =
                "raise fs.inotify.max_user_watches, fs.inotify.max_user_instances or the limit of open files";
            tracing::warn!(component = "watch", error = %failed.0, hint, "cannot watch all machines: some are polled");
        }
        self.rescan_soon();
    }

    fn rescan_soon(&mut self) {
        self.rescan_at = self.rescan_at.min(Instant::now() + POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use tokio::time::timeout;

    use super::*;
    use crate::Home;
    use crate::machine::{Claim, Exit, MachineSpec, State};

    /// A change that has not come by then is missing.
    const DEADLINE: Duration = Duration::from_secs(20);

    struct World {
        _dir: tempfile::TempDir,
        registry: Registry,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let home = Home::at(dir.path().join("home"), dir.path().join("run")).expect("a home");
            Self { registry: Registry::new(home), _dir: dir }
        }

        fn claim(&self) -> Claim {
            self.registry.claim(MachineSpec::new("busybox")).expect("claimed")
        }
    }

    /// Waits for a change that fits, and returns it.
    async fn until(watcher: &mut Watcher, fits: impl Fn(&Change) -> bool) -> Change {
        let found = timeout(DEADLINE, async {
            loop {
                let change = watcher.next().await;
                if fits(&change) {
                    return change;
                }
            }
        });
        found.await.expect("the change is reported")
    }

    fn is_in(change: &Change, id: &MachineId, fits: impl Fn(&Found) -> bool) -> bool {
        change.id.as_ref() == Some(id) && change.machine.as_ref().is_some_and(fits)
    }

    #[tokio::test]
    async fn a_machine_is_followed_from_its_claim_to_its_removal() {
        let world = World::new();
        let before = world.claim();
        let mut watcher = world.registry.watch().expect("watched");
        // What exists is reported first.
        until(&mut watcher, |change| is_in(change, &before.record.id, |_| true)).await;
        let mut claim = world.claim();
        let id = claim.record.id.clone();
        let creating = |found: &Found| found.supervised && found.record.state == State::Creating;
        until(&mut watcher, |change| is_in(change, &id, creating)).await;
        claim.record.state = State::Running;
        claim.store().expect("stored");
        until(&mut watcher, |change| is_in(change, &id, |found| found.record.state == State::Running)).await;
        drop(claim);
        let gone = until(&mut watcher, |change| change.machine.is_none()).await;
        assert_eq!((gone.short_id.as_str(), gone.id), (id.short(), Some(id.clone())));
        assert!(
            timeout(Duration::from_millis(200), watcher.next()).await.is_err(),
            "nothing else has changed"
        );
        drop(before);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_written_to_its_place_is_seen() {
        let world = World::new();
        let mut watcher = world.registry.watch().expect("watched");
        let mut claim = world.claim();
        let id = claim.record.id.clone();
        until(&mut watcher, |change| is_in(change, &id, |_| true)).await;
        claim.record.state = State::Exited(Exit { code: 3, out_of_memory: false, error: None });
        claim.dir = "/nowhere".into();
        claim.store_or_spare().expect_err("no directory");
        until(&mut watcher, |change| is_in(change, &id, |found| found.record.exit().is_some())).await;
        world.registry.remove(&id).expect("removed");
    }

    fn sleeper() -> (Child, ProcessIdentity) {
        let child = Command::new("sleep").arg("1000").spawn().expect("started");
        let identity = ProcessIdentity::from_pid(child.id()).expect("it runs");
        (child, identity)
    }

    #[tokio::test]
    async fn the_end_of_a_supervisor_is_seen_though_nothing_is_written() {
        let world = World::new();
        let mut watcher = world.registry.watch().expect("watched");
        let mut claim = world.claim();
        let id = claim.record.id.clone();
        let (mut child, identity) = sleeper();
        claim.record.supervisor = identity.clone();
        claim.store().expect("stored");
        until(&mut watcher, |change| is_in(change, &id, |found| found.record.supervisor == identity)).await;
        child.kill().expect("killed");
        until(&mut watcher, |change| is_in(change, &id, |found| !found.record.supervisor.is_alive())).await;
        child.wait().expect("ended");
        // The process that is recorded is gone, and its number may belong to another one: the lock is polled.
        claim.record.supervisor = ProcessIdentity { start_time: 1, ..ProcessIdentity::own() };
        claim.store().expect("stored");
        until(&mut watcher, |change| is_in(change, &id, |found| found.record.supervisor.start_time == 1))
            .await;
        claim.persist();
        drop(claim);
        until(&mut watcher, |change| is_in(change, &id, |found| !found.supervised)).await;
    }

    type Condition<'a> = Box<dyn Fn(&Change) -> bool + 'a>;

    /// Waits until each of the conditions was true of one change.
    async fn until_all(watcher: &mut Watcher, mut conditions: Vec<Condition<'_>>) {
        while !conditions.is_empty() {
            let change = timeout(DEADLINE, watcher.next()).await.expect("all changes are reported");
            conditions.retain(|fits| !fits(&change));
        }
    }

    /// Conditions for a change of each of the machines.
    fn each<'a>(
        claims: impl IntoIterator<Item = &'a Claim>,
        fits: impl Fn(&Found) -> bool + Copy + 'a,
    ) -> Vec<Condition<'a>> {
        let condition = |claim: &'a Claim| -> Condition<'a> {
            Box::new(move |change| is_in(change, &claim.record.id, fits))
        };
        claims.into_iter().map(condition).collect()
    }

    fn is_running(found: &Found) -> bool {
        found.record.state == State::Running
    }

    #[tokio::test]
    async fn machines_beyond_the_limit_of_watches_are_polled() {
        let world = World::new();
        // Those of the two directories, and one machine's.
        let mut watcher = Watcher::new(world.registry.clone(), 3).expect("watched");
        let mut claims = [world.claim(), world.claim(), world.claim()];
        until_all(&mut watcher, each(&claims, |_| true)).await;
        assert!(watcher.has_warned && watcher.sources.watch_count() == 3);
        for claim in &mut claims {
            claim.record.state = State::Running;
            claim.store().expect("stored");
        }
        until_all(&mut watcher, each(&claims, is_running)).await;
    }

    #[tokio::test]
    async fn what_an_overflow_of_the_queue_has_dropped_is_found() {
        let world = World::new();
        let noise = world.claim();
        let (mut changed, removed) = (world.claim(), world.claim());
        let mut watcher = world.registry.watch().expect("watched");
        until_all(&mut watcher, each([&noise, &changed, &removed], |_| true)).await;
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
        let limit: usize = limit.trim().parse().expect("a number");
        let (one, two) = (noise.dir.join("one"), noise.dir.join("two"));
        fs::write(&one, "").expect("written");
        for _ in 0..=limit / 2 {
            fs::rename(&one, &two).and_then(|()| fs::rename(&two, &one)).expect("renamed");
        }
        changed.record.state = State::Running;
        changed.store().expect("stored");
        let gone = removed.record.id.clone();
        drop(removed);
        let mut conditions = each([&changed], is_running);
        conditions
            .push(Box::new(move |change| change.id.as_ref() == Some(&gone) && change.machine.is_none()));
        until_all(&mut watcher, conditions).await;
    }

    #[tokio::test]
    async fn a_directory_that_vanishes_at_once_is_no_machine() {
        let world = World::new();
        let mut watcher = world.registry.watch().expect("watched");
        for _ in 0..50 {
            drop(world.claim());
        }
        let last = world.claim();
        until(&mut watcher, |change| is_in(change, &last.record.id, |_| true)).await;
        assert_eq!(watcher.seen.len(), 1, "{:?}", watcher.seen);
        assert_eq!(watcher.sources.watch_count(), 3);
    }

    #[tokio::test]
    async fn a_machine_whose_id_is_used_again_is_watched_again() {
        let world = World::new();
        let mut watcher = world.registry.watch().expect("watched");
        let id = MachineId::random();
        let claim = || {
            world.registry.claim_as(MachineSpec::new("busybox"), Some(id.clone()), |_| {}).expect("claimed")
        };
        drop(claim());
        let mut again = claim();
        until(&mut watcher, |change| is_in(change, &id, |_| true)).await;
        again.record.state = State::Running;
        again.store().expect("stored");
        until(&mut watcher, |change| is_in(change, &id, |found| found.record.state == State::Running)).await;
    }

    #[tokio::test]
    async fn many_machines_are_watched_with_little() {
        let world = World::new();
        let claims: Vec<_> = (0..40).map(|_| world.claim()).collect();
        let mut watcher = world.registry.watch().expect("watched");
        let mut missing: BTreeSet<_> = claims.iter().map(|claim| claim.record.id.clone()).collect();
        while !missing.is_empty() {
            let change = timeout(DEADLINE, watcher.next()).await.expect("reported");
            missing.remove(&change.id.expect("known"));
        }
        assert_eq!(watcher.sources.watch_count(), 42);
        assert!(timeout(Duration::from_millis(100), watcher.next()).await.is_err(), "each is reported once");
    }
}
