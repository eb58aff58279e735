//! Snapshots, clones and forks of machines with named volumes: each clone has its own copy.

use std::fs;
use std::time::Duration;

use e2e::{User, World, as_root_and_user, until};
use rustix::process::{Pid, Signal, kill_process};

/// Counts in the volume, so that its content differs at each moment.
const COUNT: &str = "i=0; while true; do i=$((i + 1)); echo $i > /data/count; done";

fn start_source(world: &World, args: &[&str], command: &str) {
    let image = world.busybox();
    let options = ["--name", "web"];
    world.start(options.iter().chain(args).chain(&[&*image, "sh", "-c", command]));
}

/// What a machine of its own reads in the volume.
fn read_volume(world: &World, path: &str) -> String {
    let image = world.busybox();
    let volume = "data:/volume";
    world.mimeo(["run", "--rm", "-v", volume, &image, "cat", path]).ok().text().to_owned()
}

as_root_and_user!(each_clone_has_its_own_copy_of_a_volume, with_volumes, |world| {
    start_source(world, &["-v", "data:/data"], COUNT);
    until("it counts", || {
        world.mimeo(["exec", "web", "cat", "/data/count"]).stdout.contains('2').then_some(())
    });
    world.sh("web", "echo shared > /data/file; sync");
    world.snapshot("web", "saved");
    world.sh("web", "echo of the source > /data/file");
    for name in ["one", "two"] {
        world.mimeo(["snapshot", "run", "saved", "--name", name]).ok();
        assert_eq!(world.sh(name, "cat /data/file"), "shared");
        world.sh(name, &format!("echo {name} > /data/file; echo {name} > /data/own"));
    }
    assert_eq!(world.sh("one", "cat /data/file"), "one");
    assert_eq!(world.sh("two", "cat /data/file"), "two");
    assert_eq!(world.sh("web", "cat /data/file; ls /data"), "of the source\ncount\nfile");
    // A clone keeps its copy over a restart, and has snapshots and clones of its own.
    world.mimeo(["stop", "-t", "0", "one"]).ok();
    world.mimeo(["start", "one"]).ok();
    assert_eq!(world.sh("one", "cat /data/file"), "one");
    world.snapshot("one", "of-one");
    world.sh("one", "echo later > /data/file");
    world.mimeo(["snapshot", "run", "of-one", "--name", "three"]).ok();
    assert_eq!(world.sh("three", "cat /data/own /data/file"), "one\none");
    // The volume itself is that of the source, also after the snapshots are gone.
    world.mimeo(["rm", "-f", "web", "one", "two", "three"]).ok();
    assert_eq!(read_volume(world, "/volume/file"), "of the source");
    world.mimeo(["snapshot", "rm", "of-one", "saved"]).ok();
    assert_eq!(read_volume(world, "/volume/file"), "of the source");
    world.assert_removes_all();
});

as_root_and_user!(a_fork_copies_volumes, with_volumes, |world| {
    start_source(world, &["-v", "data:/data"], COUNT);
    world.sh("web", "echo before > /data/file");
    let forked = world.mimeo(["fork", "--json", "web", "-n", "3", "--name", "try"]).ok().json();
    assert_eq!(forked["clones"].as_array().map(Vec::len), Some(3), "{forked:#}");
    for name in ["try-1", "try-2", "try-3"] {
        assert_eq!(world.sh(name, "cat /data/file"), "before");
        world.sh(name, &format!("echo {name} > /data/file"));
    }
    let counts = || ["web", "try-1", "try-2", "try-3"].map(|name| world.sh(name, "cat /data/count"));
    let first = counts();
    until("all of them count", || {
        counts().iter().zip(&first).all(|(now, before)| now != before).then_some(())
    });
    assert_eq!(world.sh("try-2", "cat /data/file"), "try-2");
    assert_eq!(world.sh("web", "cat /data/file"), "before");
    world.assert_removes_all();
    assert_eq!(read_volume(world, "/volume/file"), "before");
});

#[test]
fn a_stopped_machine_is_saved_with_its_volume() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let job = "cat /data/file; echo of the job > /data/file";
    world.mimeo(["run", "--name", "job", "-v", "data:/data", &image, "sh", "-c", job]).code(0);
    world.snapshot("job", "saved");
    world.mimeo(["start", "-a", "job"]).ok().printed("of the job\n");
    world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).ok();
    until("it has ended", || {
        world.inspect("clone")["State"]["Status"].as_str().filter(|it| *it == "exited").map(drop)
    });
    world.mimeo(["logs", "clone"]).ok().printed("of the job\n");
    world.mimeo(["cp", "clone:/data/file", "copied"]).ok();
    assert_eq!(fs::read_to_string(world.files().join("copied")).expect("copied"), "of the job\n");
    // While another machine writes to the volume, it cannot be saved.
    world.start(["--name", "writer", "-v", "data:/data", &image, "sleep", "1000"]);
    let refused = world.mimeo(["snapshot", "create", "job", "--tag", "second"]).code(125);
    refused.stderr_contains("volume data is in use by machine writer");
    world.assert_removes_all();
}

#[test]
fn what_a_snapshot_has_read_is_not_written_later() {
    let world = World::with_volumes(User::Root);
    let image = world.busybox();
    let write = |text: &str| {
        let line = format!("echo {text} > /data/file");
        world.mimeo(["run", "--rm", "-v", "data:/data", &image, "sh", "-c", &line]).ok();
    };
    write("before");
    start_source(&world, &["-v", "data:/data:ro"], "sleep 1000");
    let reader = ["run", "--rm", "-v", "data:/data:ro", &image, "cat", "/data/file"];
    world.mimeo(reader).ok().printed("before\n");
    world.snapshot("web", "saved");
    let writer = ["run", "--rm", "-v", "data:/data", &image, "true"];
    world.mimeo(writer).code(125).stderr_contains("volume data is in use by machine web");
    world.mimeo(["rm", "-f", "web"]).ok();
    write("after");
    world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).ok();
    // Neither the memory nor the page cache of the source have the file.
    assert_eq!(world.sh("clone", "cat /data/file"), "before");
    world.mimeo(["exec", "clone", "touch", "/data/file"]).code(1);
    world.mimeo(reader).ok().printed("after\n");
    world.assert_removes_all();
}

#[test]
fn a_damaged_layer_of_a_volume_is_found() {
    let world = World::with_volumes(User::Root);
    start_source(&world, &["-v", "data:/data"], "sleep 1000");
    world.sh("web", "echo text > /data/file; sync");
    world.snapshot("web", "saved");
    let layer = world.snapshot_dir("saved").join("volume-0/disk-0");
    let before = fs::read(world.snapshot_dir("saved").join("manifest.json")).expect("read");
    assert!(String::from_utf8_lossy(&before).contains("volume-0/disk-0"));
    let file = fs::OpenOptions::new().append(true).open(&layer).expect("opened");
    let length = file.metadata().expect("there").len();
    file.set_len(length + 4096).expect("grown");
    world.mimeo(["snapshot", "run", "saved"]).code(125).stderr_contains("damaged");
    file.set_len(length).expect("shrunk");
    world.mimeo(["snapshot", "run", "saved", "--name", "clone"]).ok();
    assert_eq!(world.sh("clone", "cat /data/file"), "text");
    world.assert_removes_all();
}

/// Kills the source's supervisor at different moments of a snapshot.
#[test]
fn a_supervisor_that_is_killed_during_a_snapshot_loses_no_volume() {
    let world = World::with_volumes(User::Root);
    start_source(&world, &["-v", "data:/data"], "sleep 1000");
    for round in 0..12 {
        world.sh("web", &format!("echo {round} > /data/file; sync"));
        let mut saving = world.spawn(["snapshot", "create", "web", "--tag", "saved"]);
        std::thread::sleep(Duration::from_millis(12 * round));
        for supervisor in world.supervisors() {
            kill_process(Pid::from_raw(supervisor).expect("a process id"), Signal::KILL).expect("killed");
        }
        saving.wait().expect("it ends");
        until("the volume is free", || world.mimeo(["start", "web"]).stderr.is_empty().then_some(()));
        assert_eq!(world.sh("web", "cat /data/file"), round.to_string());
        if !world.snapshot_ids().is_empty() {
            world.mimeo(["snapshot", "rm", "saved"]);
        }
    }
    world.assert_removes_all();
    assert_eq!(read_volume(&world, "/volume/file"), "11");
}
