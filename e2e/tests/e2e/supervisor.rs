//! One supervisor per machine, and the consequences when a process is killed.

use std::fs;

use e2e::{User, World, as_root_and_user, is_alive, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn kill(pid: i64) {
    kill_process(Pid::from_raw(pid as i32).expect("a process id"), Signal::KILL).expect("the process runs");
}

fn inspect(world: &World, name: &str) -> Value {
    world.mimeo(["inspect", name]).ok().json()[0].clone()
}

as_root_and_user!(the_recorded_pid_is_the_spawned_process, |world| {
    let image = world.busybox();
    let mut child = world.spawn(["run", "--rm", "--name", "mine", &image, "sleep", "1000"]);
    let pid = child.id().to_string();
    let json = until("the machine runs", || {
        let outcome = world.mimeo(["ls", "--pid", &pid, "--json"]);
        let json = (outcome.code == 0).then(|| outcome.json())?;
        (json[0]["State"] == "running").then_some(json)
    });
    assert_eq!(json[0]["Names"][0], "mine");
    world.mimeo(["exec", "--pid", &pid, "echo", "found"]).ok().printed("found\n");
    world.mimeo(["stop", "--pid", &pid]).ok();
    assert_eq!(child.wait().expect("ends").code(), Some(143));
});

as_root_and_user!(a_killed_supervisor_takes_only_its_machine_along, |world| {
    let image = world.busybox();
    world.start(["--name", "doomed", &image, "sleep", "1000"]);
    world.start(["--name", "spared", &image, "sleep", "1000"]);
    let state = inspect(world, "doomed")["State"].clone();
    let (supervisor, vmm) = (state["Pid"].as_i64().expect("a pid"), state["VmmPid"].as_i64().expect("a pid"));
    assert_ne!(supervisor, vmm);
    kill(supervisor);
    // The VMM ends as soon as the supervisor's first thread does, the lock is released when all of it has ended. Its
    // environment, by which a world knows its processes, is gone before that.
    let has_ended = |pid: i64| !is_alive(u32::try_from(pid).expect("a process id"));
    until("both have ended", || (has_ended(supervisor) && has_ended(vmm)).then_some(()));
    // The next command reports it and corrects the recorded state.
    world.mimeo(["ps", "-a"]).code(0).stderr_contains("doomed");
    let state = inspect(world, "doomed")["State"].clone();
    assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("exited"), Some(137)));
    assert!(state["Error"].as_str().is_some_and(|error| error.contains("supervisor")), "{state}");
    world.mimeo(["exec", "spared", "echo", "alive"]).ok().printed("alive\n");
    world.mimeo(["rm", "doomed"]).ok();
});

#[test]
fn a_killed_client_changes_nothing() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let mut client = world.spawn(["exec", "web", "sh", "-c", "echo here > /marker; exec sleep 1000"]);
    until("the client's command runs", || {
        (world.mimeo(["exec", "web", "cat", "/marker"]).stdout == "here\n").then_some(())
    });
    client.kill().expect("killed");
    client.wait().expect("ends");
    world.mimeo(["exec", "web", "echo", "alive"]).ok().printed("alive\n");
}

#[test]
fn a_killed_vmm_is_reported_and_cleaned_up() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    kill(inspect(&world, "web")["State"]["VmmPid"].as_i64().expect("a pid"));
    until("the machine has ended", || (inspect(&world, "web")["State"]["Status"] == "exited").then_some(()));
    let error = inspect(&world, "web")["State"]["Error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("SIGKILL"), "{error}");
    world.wait_until_no_process();
}

#[test]
fn a_vmm_killed_during_boot_names_the_stage() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let child = world.spawn(["run", "--rm", "--cold", &image, "true"]);
    let vmm = until("QEMU runs", || {
        world.processes().into_iter().find(|(_, arguments)| arguments.contains("-M microvm"))
    });
    kill(vmm.0.into());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("the guest did not come up") && stderr.contains("SIGKILL"), "{stderr}");
    world.mimeo(["ps", "-aq"]).ok().printed("");
}

#[test]
fn state_from_an_earlier_boot_is_detected() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let state = inspect(&world, "web")["State"].clone();
    kill(state["Pid"].as_i64().expect("a pid"));
    world.wait_until_no_process();
    // Simulates a reboot: the record names another boot, and its process ids are in use again.
    let file = fs::read_dir(world.home().join("machines"))
        .expect("readable")
        .flatten()
        .map(|entry| entry.path().join("machine.json"))
        .find(|path| path.exists())
        .expect("a state file");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    for process in ["monitor", "vmm"] {
        record[process]["boot_id"] = "another-boot".into();
        record[process]["pid"] = std::process::id().into();
    }
    fs::write(&file, record.to_string()).expect("written");
    world.mimeo(["ps", "-a"]).code(0).stderr_contains("web");
    assert_eq!(inspect(&world, "web")["State"]["Status"], "exited");
    world.mimeo(["rm", "web"]).ok();
}

#[test]
fn a_corrupt_state_file_is_set_aside() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "true"]);
    until("the machine has ended", || world.mimeo(["ps", "-q"]).stdout.is_empty().then_some(()));
    world.wait_until_no_process();
    let dir =
        fs::read_dir(world.home().join("machines")).expect("readable").flatten().next().expect("one").path();
    fs::write(dir.join("machine.json"), "{\"format\": 1, \"id").expect("written");
    world.mimeo(["ps", "-a"]).code(0).stderr_contains("is kept as");
    let is_set_aside = fs::read_dir(&dir)
        .expect("readable")
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("machine.json.corrupt-"));
    assert!(is_set_aside, "the corrupt file is kept");
    // New machines can still be started.
    world.mimeo(["run", "--rm", &image, "echo", "fine"]).code(0).printed("fine\n");
    let id = dir.file_name().expect("a name").to_string_lossy().into_owned();
    world.mimeo(["rm", "-f", &id]).code(0);
    assert!(!dir.exists());
}

#[test]
fn twenty_machines_start_at_once() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["image", "pull", "-q", &image]).code(0);
    let name = |n: usize| format!("m{n}");
    let children: Vec<_> = (0..20)
        .map(|n| world.spawn(["run", "-d", "-m", "128m", "--name", &name(n), &image, "sleep", "1000"]))
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let json = world.mimeo(["ps", "--json"]).ok().json();
    let mut addresses: Vec<_> = (0..20)
        .map(|n| {
            inspect(&world, &name(n))["NetworkSettings"]["IPAddress"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((json.as_array().map(Vec::len), addresses.len()), (Some(20), 20));
}

#[test]
fn killing_the_client_of_a_detached_start_undoes_it() {
    let world = World::new(User::Root);
    let image = world.busybox();
    // A restored guest would run before it is seen on a busy host.
    let mut child = world.spawn(["run", "-d", "--cold", &image, "sleep", "1000"]);
    until("QEMU runs", || {
        world.processes().into_iter().find(|(_, arguments)| arguments.contains("-M microvm"))
    });
    child.kill().expect("killed");
    child.wait().expect("ends");
    world.wait_until_no_process();
    world.mimeo(["ps", "-aq"]).ok().printed("");
}
