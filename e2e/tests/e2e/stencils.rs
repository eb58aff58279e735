//! Without KVM machines are restored from stencils: checkpointed QEMU processes with a warm TCG cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::{RetryDelay, User, World, as_root_and_user, flip_byte, until};

/// Saves a machine of 128 MiB that has written to its disk as `saved`.
fn save_machine(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh("web", "echo one > /file; echo one > /dev/shm/memory; sync");
    world.snapshot("web", "saved");
    world.mimeo(["rm", "-f", "web"]).ok();
}

/// The memory mappings of the machine's QEMU.
fn maps(world: &World, machine: &str) -> String {
    let pid = world.inspect(machine)["State"]["VmmPid"].as_i64().expect("a process");
    fs::read_to_string(format!("/proc/{pid}/maps")).expect("readable")
}

/// The open descriptors of the machine's QEMU: kind, flags and file locks of each. Duplicates are dropped, because the
/// number of threads varies and each has its own eventfds.
fn descriptors(world: &World, machine: &str) -> BTreeSet<String> {
    let pid = world.inspect(machine)["State"]["VmmPid"].as_i64().expect("a process");
    let links =
        fs::read_dir(format!("/proc/{pid}/fd")).expect("readable").map(|entry| entry.expect("a link"));
    let one = |link: fs::DirEntry| {
        let target = fs::read_link(link.path()).ok()?.display().to_string();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", link.file_name().display())).ok()?;
        let kind = match target.split_once(":[") {
            Some(("anon_inode", kind)) => kind.trim_end_matches(']').to_owned(),
            // These descriptors are passed under fixed numbers.
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

/// The stencil of the snapshot `saved`.
fn stencil(world: &World) -> PathBuf {
    let name = world.snapshot_dir("saved").file_name().expect("a name").to_owned();
    world
        .stencils()
        .into_iter()
        .find(|dir| dir.file_name() == Some(&name))
        .expect("the snapshot has a stencil")
}

as_root_and_user!(clones_are_restored_from_a_stencil, |world| {
    save_machine(world);
    world.clones(&["saved", "--name", "one"]);
    world.clones(&["saved", "--name", "other"]);
    for clone in ["one", "other"] {
        let pages = stencil(world).join("process.pages").display().to_string();
        assert!(maps(world, clone).contains(&pages), "{clone} was not restored from {pages}");
        assert_eq!(world.sh(clone, "cat /file /dev/shm/memory; hostname").lines().count(), 3);
    }
    // Writes of one clone are visible neither to the others nor to later ones.
    world.sh("one", "echo two > /file; echo two > /dev/shm/memory; sync");
    world.clones(&["saved", "--name", "third"]);
    for clone in ["other", "third"] {
        assert_eq!(world.sh(clone, "cat /file /dev/shm/memory"), "one\none");
    }
    world.mimeo(["snapshot", "rm", "saved"]).ok();
    assert_eq!(world.sh("third", "cat /file"), "one");
    world.assert_removes_all();
});

#[test]
fn a_clone_of_a_stencil_can_be_saved_and_forked() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "--name", "clone"]);
    world.sh("clone", "echo two > /file; echo two > /dev/shm/memory");
    world.snapshot("clone", "again");
    world.clones(&["again", "--name", "last"]);
    world.mimeo(["fork", "last", "-n", "4", "--name", "fork"]).ok();
    for machine in ["clone", "last", "fork-1", "fork-4"] {
        assert_eq!(world.sh(machine, "cat /file /dev/shm/memory"), "two\ntwo", "{machine}");
    }
    world.assert_removes_all();
}

#[test]
fn a_modified_stencil_is_rebuilt() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "--name", "first"]);
    for file in ["process.json", "process.pages", "qemu.json", "memory", "memory.pages", "disk-1"] {
        let damaged = stencil(&world).join(file);
        let before = fs::read(stencil(&world).join("seal.json")).expect("a seal");
        // The modification time changes, as after a write.
        let time = fs::metadata(&damaged).expect("the file exists").modified().expect("a time");
        flip_byte(&damaged);
        let changed = fs::File::options().write(true).open(&damaged).expect("open");
        changed.set_modified(time + std::time::Duration::from_secs(1)).expect("changed");
        world.clones(&["saved", "--name", "clone"]);
        assert_eq!(world.sh("clone", "cat /file /dev/shm/memory"), "one\none", "{file}");
        assert_ne!(fs::read(stencil(&world).join("seal.json")).expect("a seal"), before, "{file}");
        world.mimeo(["rm", "-f", "clone"]).ok();
    }
    world.assert_removes_all();
}

#[test]
fn an_unusable_stencil_falls_back_to_the_saved_state() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "--name", "first"]);
    let image = stencil(&world).join("process.json");
    set_other_boot_id(&image);
    let clone = world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).code(0);
    clone.stderr_contains("the host has rebooted since");
    assert!(!maps(&world, "clone").contains("process.pages"));
    // The disk is the snapshot's, without the writes of the stencil's guest.
    assert_eq!(
        world.sh("clone", "cat /file /dev/shm/memory; touch /new && sync && echo well"),
        "one\none\nwell"
    );
    // It is not reported again.
    world.clones(&["saved", "--name", "next"]);
    assert_eq!(world.sh("next", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_restored_qemu_has_the_descriptor_flags_of_a_started_one() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "--name", "restored"]);
    assert!(maps(&world, "restored").contains("process.pages"));
    // The stencil is refused, so this clone starts from the saved state.
    set_other_boot_id(&stencil(&world).join("process.json"));
    world.mimeo(["snapshot", "run", "saved", "--name", "started"]).code(0);
    assert!(!maps(&world, "started").contains("process.pages"));
    let (mut restored, mut started) = (descriptors(&world, "restored"), descriptors(&world, "started"));
    // All restored processes share the stencil's memory file, so they have it open read-only.
    assert!(restored.remove("memory 0100000 "), "{restored:#?}");
    assert!(started.remove("memory 0100002 "), "{started:#?}");
    assert_eq!(restored, started);
    world.assert_removes_all();
}

#[test]
fn a_failed_stencil_is_retried_in_the_background() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "--name", "first"]);
    let stencil = stencil(&world);
    let start_clone = |name: &str| {
        world.mimeo(["snapshot", "run", "saved", "--name", name]).ok();
        let reason = world.inspect(name)["BootReason"].as_str().unwrap_or_default().to_owned();
        (maps(&world, name).contains("process.pages"), reason)
    };
    // Simulates a failure: it is not retried, and `inspect` shows the reason.
    fs::remove_dir_all(&stencil).expect("removed");
    fs::create_dir(&stencil).expect("made");
    let failed = world.mark_stencils_failed(RetryDelay::Pending);
    assert_eq!(start_clone("known"), (false, "stencil unavailable: a test".to_owned()));
    assert!(fs::read_dir(&stencil).expect("readable").next().is_none());
    // After the retry delay a stencil is made while the clone runs.
    world.mark_stencils_failed(RetryDelay::Over);
    assert!(!start_clone("retried").0);
    until("the stencil is made", || failed.iter().any(|file| !file.exists()).then_some(()));
    assert_eq!(start_clone("last"), (true, String::new()));
    assert_eq!(world.sh("last", "cat /file /dev/shm/memory"), "one\none");
    world.assert_removes_all();
}

/// Changes the boot id in a checkpoint image and restores the file's modification time.
fn set_other_boot_id(image: &Path) {
    let time = fs::metadata(image).expect("the file exists").modified().expect("a time");
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
    save_machine(&world);
    let mut making = world.spawn(["snapshot", "run", "saved", "--name", "clone"]);
    let draft = || {
        let boots = fs::read_dir(world.home().join("stencils")).into_iter().flatten().flatten();
        let mut all = boots.flat_map(|boot| fs::read_dir(boot.path()).into_iter().flatten().flatten());
        all.any(|entry| entry.file_name().to_string_lossy().starts_with(".new-"))
    };
    until("a stencil is being made", || draft().then_some(()));
    for supervisor in world.supervisors() {
        let pid = rustix::process::Pid::from_raw(supervisor).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    making.wait().expect("ends");
    until("the draft is swept", || {
        world.mimeo(["ps"]).code(0);
        (!draft()).then_some(())
    });
    world.clones(&["saved", "--name", "clone"]);
    assert_eq!(world.sh("clone", "cat /file"), "one");
    world.assert_removes_all();
}

#[test]
fn a_warm_up_run_leaves_no_trace() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "first", &image, "sleep", "1000"]);
    world.start(["--name", "other", &image, "sleep", "1000"]);
    world.snapshot("other", "saved");
    world.clones(&["saved", "-n", "2", "--name", "clone"]);
    let consoles = world
        .stencils()
        .into_iter()
        .map(|dir| std::fs::read_to_string(dir.join("console.log")).expect("readable"));
    // Both warm-up runs of the boot snapshot's stencil have run their program to its end.
    let console = consoles.into_iter().find(|console| console.contains("configured as warm-up"));
    let console = console.expect("the boot snapshot has a stencil");
    assert_eq!(console.matches("the container ended: Code(0)").count(), 2, "{console}");
    for machine in ["first", "other", "clone-1", "clone-2"] {
        // The kernel did in the boot snapshot what each machine would have to do: it has measured the TSC.
        let clock = world.sh(machine, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
        assert_ne!(clock, "tsc-early", "{machine}");
        let addresses = world.sh(machine, "ip -4 addr show eth0 | grep -c inet");
        assert_eq!(addresses, "1", "{machine}: {}", world.sh(machine, "ip addr"));
        let found =
            world.sh(machine, "ls / /etc /tmp; cat /etc/hosts /etc/hostname /run/mimeo/env; hostname; ps");
        assert!(!found.contains("warm-up"), "{machine}: {found}");
    }
    world.assert_removes_all();
}

#[test]
fn a_family_shares_unchanged_memory() {
    let world = World::new(User::Root);
    save_machine(&world);
    world.clones(&["saved", "-n", "4", "--name", "clone"]);
    let stats = world.mimeo(["stats", "--no-stream", "--json"]).ok().json();
    let sum = |name: &str| {
        let rows = stats.as_array().expect("a list").iter();
        rows.map(|row| row[name].as_u64().expect("bytes")).sum::<u64>()
    };
    let [all, unique, shared] = ["host_pss_bytes", "host_unique_bytes", "host_shared_bytes"].map(sum);
    // PSS counts shared pages proportionally, so the sum stays below unique plus shared memory.
    assert!(0 < unique && unique < all && all < unique + shared, "{unique} {all} {shared}");
    let table = world.mimeo(["stats", "--no-stream"]).ok().stdout;
    let name = world.snapshot_dir("saved").file_name().expect("a name").to_string_lossy().into_owned();
    let family = table.lines().find(|line| line.starts_with(&name)).expect("a line for the family");
    assert_eq!(family.split_whitespace().nth(1), Some("4"), "{table}");
    world.assert_removes_all();
}
