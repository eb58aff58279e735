//! Machines begin as a process that was kept, with all that it has translated.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::{RetryDelay, User, World, as_root_and_user, flip_byte, until};

/// A machine of 128 MiB that has written to its disk, kept as `kept`.
fn kept(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh("web", "echo one > /file; echo one > /dev/shm/memory; sync");
    world.snapshot("web", "kept");
    world.mimeo(["rm", "-f", "web"]).ok();
}

/// What the machine's monitor has mapped.
fn maps(world: &World, machine: &str) -> String {
    let pid = world.inspect(machine)["State"]["VmmPid"].as_i64().expect("a process");
    fs::read_to_string(format!("/proc/{pid}/maps")).expect("readable")
}

/// How the machine's QEMU has its descriptors open: what each is of, its flags, and the locks that belong to it. Counts are
/// left out: threads come and go with eventfds of their own.
fn descriptors(world: &World, machine: &str) -> BTreeSet<String> {
    let pid = world.inspect(machine)["State"]["VmmPid"].as_i64().expect("a process");
    let links =
        fs::read_dir(format!("/proc/{pid}/fd")).expect("readable").map(|entry| entry.expect("a link"));
    let one = |link: fs::DirEntry| {
        let target = fs::read_link(link.path()).ok()?.display().to_string();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", link.file_name().display())).ok()?;
        let kind = match target.split_once(":[") {
            Some(("anon_inode", kind)) => kind.trim_end_matches(']').to_owned(),
            // Each by its number: they are given under fixed ones.
            Some((kind, _)) => format!("{kind} {}", link.file_name().display()),
            None if target.ends_with(".ext4") => "image".to_owned(),
            None if ["/stencils/", "/memory/"].iter().any(|dir| target.contains(dir)) => "memory".to_owned(),
            None => target.rsplit('/').next()?.to_owned(),
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let locks = info.lines().filter(|line| line.starts_with("lock:"));
        let locks: Vec<_> =
            locks.map(|line| line.split_whitespace().skip(2).take(3).collect::<Vec<_>>().join(" ")).collect();
        Some(format!("{kind} {flags} {}", locks.join(", ")))
    };
    links.filter_map(one).collect()
}

/// The stencil of the snapshot that is kept as `kept`.
fn stencil(world: &World) -> PathBuf {
    let name = world.snapshot_dir("kept").file_name().expect("a name").to_owned();
    world.stencils().into_iter().find(|dir| dir.file_name() == Some(&name)).expect("it has one")
}

as_root_and_user!(clones_are_restored_from_a_stencil, |world| {
    kept(world);
    world.clones(&["kept", "--name", "one"]);
    world.clones(&["kept", "--name", "other"]);
    for copy in ["one", "other"] {
        let pages = stencil(world).join("process.pages").display().to_string();
        assert!(maps(world, copy).contains(&pages), "{copy} does not begin as {pages}");
        assert_eq!(world.sh(copy, "cat /file /dev/shm/memory; hostname").lines().count(), 3);
    }
    // What one writes the other does not see, nor do those after them.
    world.sh("one", "echo two > /file; echo two > /dev/shm/memory; sync");
    world.clones(&["kept", "--name", "third"]);
    for copy in ["other", "third"] {
        assert_eq!(world.sh(copy, "cat /file /dev/shm/memory"), "one\none");
    }
    world.mimeo(["snapshot", "rm", "kept"]).ok();
    assert_eq!(world.sh("third", "cat /file"), "one");
    world.assert_removes_all();
});

#[test]
fn a_clone_of_a_stencil_can_be_saved_and_forked() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "--name", "copy"]);
    world.sh("copy", "echo two > /file; echo two > /dev/shm/memory");
    world.snapshot("copy", "again");
    world.clones(&["again", "--name", "last"]);
    world.mimeo(["fork", "last", "-n", "4", "--name", "child"]).ok();
    for machine in ["copy", "last", "child-1", "child-4"] {
        assert_eq!(world.sh(machine, "cat /file /dev/shm/memory"), "two\ntwo", "{machine}");
    }
    world.assert_removes_all();
}

#[test]
fn a_modified_stencil_is_rebuilt() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "--name", "first"]);
    for file in ["process.json", "process.pages", "qemu.json", "memory", "memory.pages", "disk-1"] {
        let damaged = stencil(&world).join(file);
        let before = fs::read(stencil(&world).join("seal.json")).expect("a seal");
        // As a file is written to: its time of change tells.
        let time = fs::metadata(&damaged).expect("it is there").modified().expect("a time");
        flip_byte(&damaged);
        let changed = fs::File::options().write(true).open(&damaged).expect("open");
        changed.set_modified(time + std::time::Duration::from_secs(1)).expect("changed");
        world.clones(&["kept", "--name", "copy"]);
        assert_eq!(world.sh("copy", "cat /file /dev/shm/memory"), "one\none", "{file}");
        assert_ne!(fs::read(stencil(&world).join("seal.json")).expect("a seal"), before, "{file}");
        world.mimeo(["rm", "-f", "copy"]).ok();
    }
    world.assert_removes_all();
}

#[test]
fn an_unusable_stencil_falls_back_to_the_saved_state() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "--name", "first"]);
    let image = stencil(&world).join("process.json");
    say_of_another_boot(&image);
    let copy = world.mimeo(["snapshot", "run", "kept", "--name", "copy"]).code(0);
    copy.stderr_contains("the host has rebooted since");
    assert!(!maps(&world, "copy").contains("process.pages"));
    // The disk is the snapshot's, without what the stencil's guest has written.
    assert_eq!(
        world.sh("copy", "cat /file /dev/shm/memory; touch /new && sync && echo well"),
        "one\none\nwell"
    );
    // Nobody hears of it again.
    world.clones(&["kept", "--name", "next"]);
    assert_eq!(world.sh("next", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_restored_qemu_has_the_descriptor_flags_of_a_started_one() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "--name", "restored"]);
    assert!(maps(&world, "restored").contains("process.pages"));
    // One that is started with the saved state, since the stencil is refused.
    say_of_another_boot(&stencil(&world).join("process.json"));
    world.mimeo(["snapshot", "run", "kept", "--name", "started"]).code(0);
    assert!(!maps(&world, "started").contains("process.pages"));
    let (mut restored, mut started) = (descriptors(&world, "restored"), descriptors(&world, "started"));
    // The stencil's memory file is shared by all restored processes: they have it open for reading only.
    assert!(restored.remove("memory 0100000 "), "{restored:#?}");
    assert!(started.remove("memory 0100002 "), "{started:#?}");
    assert_eq!(restored, started);
    world.assert_removes_all();
}

#[test]
fn a_failed_stencil_is_retried_in_the_background() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "--name", "first"]);
    let stencil = stencil(&world);
    let copy = |name: &str| {
        let told = world.mimeo(["snapshot", "run", "kept", "--name", name]).ok();
        assert_eq!(told.stderr, "");
        let reason = world.inspect(name)["BootReason"].as_str().unwrap_or_default().to_owned();
        (maps(&world, name).contains("process.pages"), reason)
    };
    // As if it had failed: it is known, not tried, and told where it is asked for.
    fs::remove_dir_all(&stencil).expect("removed");
    fs::create_dir(&stencil).expect("made");
    let failed = world.mark_stencils_failed(RetryDelay::Pending);
    assert_eq!(copy("known"), (false, "without a stencil, which is not to be had: a test".to_owned()));
    assert!(fs::read_dir(&stencil).expect("readable").next().is_none());
    // The pause is over: one is made while the copy runs.
    world.mark_stencils_failed(RetryDelay::Over);
    assert!(!copy("retried").0);
    until("it is there", || failed.iter().any(|file| !file.exists()).then_some(()));
    assert_eq!(copy("last"), (true, String::new()));
    assert_eq!(world.sh("last", "cat /file /dev/shm/memory"), "one\none");
    world.assert_removes_all();
}

/// Changes a stencil so that nobody can see that it was.
fn say_of_another_boot(image: &Path) {
    let time = fs::metadata(image).expect("it is there").modified().expect("a time");
    let text = fs::read_to_string(image).expect("readable");
    let (before, rest) = text.split_once("\"boot_id\":\"").expect("a boot");
    let changed =
        format!("{before}\"boot_id\":\"{}{}", if rest.starts_with('0') { '1' } else { '0' }, &rest[1..]);
    fs::write(image, changed).expect("written");
    fs::File::options().write(true).open(image).expect("open").set_modified(time).expect("changed");
}

#[test]
fn a_killed_stencil_draft_is_swept() {
    let world = World::new(User::Root);
    kept(&world);
    let mut making = world.spawn(["snapshot", "run", "kept", "--name", "copy"]);
    let draft = || {
        let boots = fs::read_dir(world.home().join("stencils")).into_iter().flatten().flatten();
        let mut all = boots.flat_map(|boot| fs::read_dir(boot.path()).into_iter().flatten().flatten());
        all.any(|entry| entry.file_name().to_string_lossy().starts_with(".new-"))
    };
    until("it is being made", || draft().then_some(()));
    for monitor in world.supervisors() {
        let pid = rustix::process::Pid::from_raw(monitor).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    making.wait().expect("ends");
    until("it is swept", || {
        world.mimeo(["ps"]).code(0);
        (!draft()).then_some(())
    });
    world.clones(&["kept", "--name", "copy"]);
    assert_eq!(world.sh("copy", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_warm_up_run_leaves_no_trace() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "first", &image, "sleep", "1000"]);
    world.start(["--name", "other", &image, "sleep", "1000"]);
    world.snapshot("other", "kept");
    world.clones(&["kept", "-n", "2", "--name", "copy"]);
    for machine in ["first", "other", "copy-1", "copy-2"] {
        let addresses = world.sh(machine, "ip -4 addr show eth0 | grep -c inet");
        assert_eq!(addresses, "1", "{machine}: {}", world.sh(machine, "ip addr"));
        let found = world.sh(machine, "ls / /etc; cat /etc/hosts /etc/hostname /run/mimeo/env; hostname; ps");
        assert!(!found.contains("rehearsal"), "{machine}: {found}");
    }
    world.assert_removes_all();
}

#[test]
fn a_family_shares_unchanged_memory() {
    let world = World::new(User::Root);
    kept(&world);
    world.clones(&["kept", "-n", "4", "--name", "copy"]);
    let stats = world.mimeo(["stats", "--no-stream", "--json"]).ok().json();
    let sum = |name: &str| {
        let rows = stats.as_array().expect("a list").iter();
        rows.map(|row| row[name].as_u64().expect("bytes")).sum::<u64>()
    };
    let [all, unique, shared] = ["host_pss_bytes", "host_unique_bytes", "host_shared_bytes"].map(sum);
    // Each counts what it shares by its share; none more than there is.
    assert!(0 < unique && unique < all && all < unique + shared, "{unique} {all} {shared}");
    let table = world.mimeo(["stats", "--no-stream"]).ok().stdout;
    let name = world.snapshot_dir("kept").file_name().expect("a name").to_string_lossy().into_owned();
    let family = table.lines().find(|line| line.starts_with(&name)).expect("a line for the family");
    assert_eq!(family.split_whitespace().nth(1), Some("4"), "{table}");
    world.assert_removes_all();
}
