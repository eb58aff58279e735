//! Shared directories behave like a local filesystem, and both sides see the same.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use e2e::{Outcome, User, World, as_root_and_user, guest_program, until};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the directory is in the machines.
const GUEST: &str = "/data";

/// A shared directory that contains the test program.
struct Shared<'a> {
    world: &'a World,
    dir: PathBuf,
}

impl<'a> Shared<'a> {
    fn new(world: &'a World) -> Self {
        let program = world.file("shared/probe", guest_program("share_probe"));
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("changed");
        Self { world, dir: program.parent().expect("a directory").to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new directory in it, which belongs to the world's user.
    fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).expect("created");
        self.world.chown(&self.path(name));
        self.path(name)
    }

    /// Starts a machine with the directory.
    fn start(&self, name: &str) {
        let volume = format!("{}:{GUEST}", self.dir.display());
        self.world.start([
            "--name",
            name,
            "-w",
            GUEST,
            "-v",
            &volume,
            &self.world.busybox(),
            "sleep",
            "1000",
        ]);
    }

    /// Runs a shell script in the directory, in the machine.
    fn sh(&self, machine: &str, shell: &str) -> Outcome {
        self.world.mimeo(["exec", machine, "sh", "-c", shell])
    }

    /// Runs the test program on the host, in a directory below the shared one.
    fn on_host(&self, directory: &str, words: &[&str]) -> Outcome {
        let mut command = self.world.program(self.path("probe"));
        command.args(words).current_dir(self.path(directory));
        self.world.finish(command)
    }

    /// Runs the test program in the machine, in a directory below the shared one.
    fn in_guest(&self, machine: &str, directory: &str, words: &[&str]) -> Outcome {
        let directory = format!("{GUEST}/{directory}");
        let head = ["exec", "-w", &directory, machine, "/data/probe"];
        self.world.mimeo([&head, words].concat())
    }

    /// Holds a lock until [`release`] is called.
    fn hold(&self, machine: Option<&str>, kind: &str, file: &str) -> Child {
        let words = ["--hold", kind, file, "ready"];
        let mut command = match machine {
            Some(machine) => {
                self.world.command([&["exec", "-i", machine, "/data/probe"][..], &words].concat())
            }
            None => self.world.program(self.path("probe")),
        };
        if machine.is_none() {
            command.args(words).current_dir(&self.dir);
        }
        let holder = command.stdin(Stdio::piped()).spawn().expect("started");
        until("the lock is held", || fs::remove_file(self.path("ready")).ok());
        holder
    }
}

/// Ends the input of a process that holds a lock, and waits for its end.
fn release(mut holder: Child) {
    drop(holder.stdin.take());
    assert!(holder.wait().expect("ended").success());
}

as_root_and_user!(they_behave_like_a_local_filesystem, |world| {
    let shared = Shared::new(world);
    shared.start("web");
    shared.directory("host");
    shared.directory("guest");
    let expected = shared.on_host("host", &[]).ok();
    assert!(!expected.stdout.contains("FAILED"), "{expected:#?}");
    shared.in_guest("web", "guest", &[]).ok().printed(&expected.stdout);
});

as_root_and_user!(files_are_renamed_and_replaced_under_open_descriptors, |world| {
    let shared = Shared::new(world);
    world.file("shared/dir/file", "old\n");
    shared.start("web");
    // Without a timeout the guest would not notice the renames of the host.
    let reader = world
        .command(["exec", "-i", "web", "sh", "-c", "cd dir; exec 3<file; read x; cat <&3; ls; cat file"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut reader = reader.expect("started");
    let reads = || shared.sh("web", "ls -l /proc/[0-9]*/fd/3").stdout.contains("/data/dir/file");
    until("the guest has the file open", || reads().then_some(()));
    fs::rename(shared.path("dir/file"), shared.path("dir/moved")).expect("renamed");
    fs::rename(shared.path("dir"), shared.path("elsewhere")).expect("renamed");
    world.file("shared/new", "new\n");
    fs::rename(shared.path("new"), shared.path("elsewhere/file")).expect("renamed");
    let seen = || shared.sh("web", "cat elsewhere/file && ! [ -e dir ]").stdout;
    until("the guest sees the new names", || (seen() == "new\n").then_some(()));
    reader.stdin.take().expect("piped").write_all(b"\n").expect("written");
    Outcome::wait_for(reader).code(0).printed("old\nfile\nmoved\nnew\n");
    // What the guest renames, the host sees at once.
    shared.sh("web", "mv elsewhere dir; mv -f dir/file dir/moved; ln dir/moved dir/link").ok();
    let (moved, link) = (shared.path("dir/moved"), shared.path("dir/link"));
    assert_eq!(fs::read_to_string(&moved).expect("read"), "new\n");
    let inodes = [&moved, &link].map(|path| fs::metadata(path).expect("it exists").ino());
    assert_eq!(inodes[0], inodes[1]);
    shared.sh("web", "stat -c '%i %h' dir/link").ok().printed(&format!("{} 2\n", inodes[0]));
});

as_root_and_user!(mapped_and_appended_data_of_both_sides_is_kept, |world| {
    let shared = Shared::new(world);
    shared.start("web");
    shared.in_guest("web", "", &["--map-fill", "mapped"]).ok();
    let mapped = fs::read(shared.path("mapped")).expect("read");
    assert!(mapped.len() == 1 << 20 && mapped[0] == b'M' && mapped[1..].iter().all(|byte| *byte == b'm'));
    let guest = world.spawn(["exec", "web", "/data/probe", "--append", "log", "guest", "300"]);
    until("the guest appends", || shared.path("log").exists().then_some(()));
    shared.on_host("", &["--append", "log", "host", "300"]).ok();
    Outcome::wait_for(guest).ok();
    let log = fs::read_to_string(shared.path("log")).expect("read");
    for side in ["guest", "host"] {
        let lines: Vec<_> = log.lines().filter(|line| line.starts_with(side)).collect();
        assert_eq!(lines, (0..300).map(|n| format!("{side} {n}")).collect::<Vec<_>>());
    }
    // The guest's own cache is not left with what it wrote at other offsets.
    let seen = || shared.sh("web", "cat log").ok().stdout;
    until("the guest sees all lines", || (seen() == log).then_some(()));
});

as_root_and_user!(flock_holds_among_host_and_machines, |world| {
    let shared = Shared::new(world);
    world.file("shared/file", "");
    ["one", "two"].iter().for_each(|name| shared.start(name));
    let tries = || {
        let guests = ["one", "two"].map(|name| shared.in_guest(name, "", &["--try-flock", "file"]).code);
        [guests[0], guests[1], shared.on_host("", &["--try-flock", "file"]).code]
    };
    assert_eq!(tries(), [0, 0, 0]);
    for holder in [Some("one"), None] {
        let held = shared.hold(holder, "flock", "file");
        assert_eq!(tries(), [1, 1, 1], "{holder:?}");
        let waiter = world.spawn(["exec", "two", "/data/probe", "--wait-flock", "file"]);
        // A waiter can be killed, and others go on waiting.
        shared.sh("one", "timeout -s KILL 1 ./probe --wait-flock file").code(137);
        assert_eq!(fs::read(shared.path("file")).expect("read"), b"");
        release(held);
        Outcome::wait_for(waiter).ok();
        assert_eq!(fs::read(shared.path("file")).expect("read"), b"locked");
        until("all locks are released", || (tries() == [0, 0, 0]).then_some(()));
        fs::write(shared.path("file"), "").expect("written");
    }
    // A machine that ends releases its locks.
    let held = shared.hold(Some("one"), "flock", "file");
    assert_eq!(tries()[1..], [1, 1]);
    world.mimeo(["rm", "-f", "-t", "0", "one"]).ok();
    drop(Outcome::wait_for(held));
    until("the lock is released", || {
        (shared.in_guest("two", "", &["--try-flock", "file"]).code == 0).then_some(())
    });
});

as_root_and_user!(owners_follow_the_user_of_the_supervisor, |world| {
    let shared = Shared::new(world);
    let dir = shared.directory("open");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("changed");
    shared.start("web");
    let touched = world.mimeo(["exec", "-u", "1234:1234", "web", "touch", "/data/open/mine"]).ok();
    touched.printed("");
    let owner = |name: &str| fs::metadata(dir.join(name)).expect("it exists").uid();
    let chown = shared.sh("web", "touch open/file; chown 4321 open/file");
    match world.user() {
        User::Root => {
            chown.ok();
            assert_eq!((owner("mine"), owner("file")), (1234, 4321));
        }
        User::Ordinary => {
            chown.code(1).stderr_contains("Operation not permitted");
            let own = fs::metadata(&shared.dir).expect("it exists").uid();
            assert_eq!((owner("mine"), owner("file")), (own, own));
            shared.sh("web", "stat -c %u open/mine").ok().printed("0\n");
        }
    }
});

/// A small filesystem, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        mount("none", at, "tmpfs", MountFlags::empty(), c"size=2M,nr_inodes=20").expect("root mounts");
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn a_full_filesystem_of_the_host_is_reported() {
    let world = World::new(User::Root);
    let shared = Shared::new(&world);
    let small = Small::mount(&shared.directory("small"));
    shared.start("web");
    shared.sh("web", "stat -f -c %b small").ok().printed("512\n");
    let full = "No space left on device";
    shared.sh("web", "dd if=/dev/zero of=small/big bs=1M count=3").code(1).stderr_contains(full);
    shared.sh("web", "echo x > small/another").code(1).stderr_contains(full);
    assert_eq!(fs::metadata(small.0.join("big")).expect("it exists").len(), 2 << 20);
    shared.sh("web", "rm small/big; for n in $(seq 20); do : > small/$n; done").code(1).stderr_contains(full);
    shared.sh("web", "rm small/*; echo again > small/file; cat small/file").ok().printed("again\n");
    world.mimeo(["rm", "-f", "-t", "0", "web"]).ok();
}

#[test]
fn a_hundred_thousand_files_are_complete() {
    const FILES: &str = "100000";
    let world = World::new(User::Root);
    let shared = Shared::new(&world);
    shared.start("web");
    shared.directory("many");
    shared.on_host("many", &["--many", FILES]).ok();
    let walked = shared.on_host("many", &["--walk"]).ok();
    assert!(walked.stdout.starts_with(FILES), "{walked:#?}");
    // Twice: the inode numbers are stable.
    shared.in_guest("web", "many", &["--walk"]).ok().printed(&walked.stdout);
    shared.in_guest("web", "many", &["--walk"]).ok().printed(&walked.stdout);
    shared.directory("new");
    shared.in_guest("web", "new", &["--many", "2000"]).ok();
    let created = shared.on_host("new", &["--walk"]).ok();
    shared.in_guest("web", "new", &["--walk"]).ok().printed(&created.stdout);
    shared.sh("web", "rm -rf new many/1; ls many | wc -l; ls").ok().printed("99\nmany\nprobe\n");
    assert_eq!(fs::read_dir(shared.path("many")).expect("readable").count(), 99);
}
