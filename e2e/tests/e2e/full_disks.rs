//! Machines on a host whose disk is full or read-only.

use std::fs::{self, File};

use e2e::{Filler, Outcome, User, World, signal, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Space for a kernel, an image and some machines that boot cold.
const DISK_BYTES: u64 = 200 << 20;
/// A workload that does not write to its disk while it waits for `/go`.
const WAIT: &str = "until [ -e /go ]; do sleep 0.1; done";

fn start(world: &World, name: &str, options: &[&str], shell: &str) {
    let image = world.busybox();
    let words = [&["--cold", "--name", name], options, &[&image, "sh", "-c", shell]].concat();
    world.start(words);
}

fn state(world: &World, name: &str) -> Value {
    // A sweep that cannot write says so on standard error.
    world.mimeo(["inspect", name]).code(0).json()[0]["State"].clone()
}

/// A process of a machine.
fn process(world: &World, name: &str, field: &str) -> Pid {
    let pid = state(world, name)[field].as_i64().expect("a process id");
    Pid::from_raw(i32::try_from(pid).expect("small")).expect("a process id")
}

fn until_paused(world: &World, name: &str) {
    until("the machine is paused", || {
        let state = state(world, name);
        let reason = state["PauseReason"].as_str().unwrap_or_default();
        let is_paused = reason == "its disk cannot be written: No space left on device";
        (is_paused && state["Status"] == "paused" && state["Paused"] == true).then_some(())
    });
}

fn until_status(world: &World, name: &str, status: &str) {
    until(status, || {
        // The machine may not exist yet.
        let outcome = world.mimeo(["inspect", "--format", "{{.State.Status}}", name]);
        (outcome.code == 0 && outcome.stdout.trim() == status).then_some(())
    });
}

/// Has the guest write more than the host's disk takes, and waits until it is paused for that.
fn write_and_pause(world: &World, name: &str, filler: &Filler) -> std::process::Child {
    assert!(filler.path().exists());
    let shell = "dd if=/dev/urandom of=/file bs=1M count=20 2>/dev/null; sync; echo synced";
    let writer = world.spawn(["exec", name, "sh", "-c", shell]);
    until_paused(world, name);
    writer
}

#[test]
fn output_that_cannot_be_logged_is_counted() {
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "talker", &[], "while :; do echo tick; sleep 0.1; done");
    // Without anything to write to its disk the guest is not paused.
    world.mimeo(["exec", "talker", "sync"]).ok();
    let filler = Filler::new(&world.home());
    let lost =
        || world.inspect("talker")["HostConfig"]["LogConfig"]["LostBytes"].as_u64().unwrap_or_default();
    until("output is lost", || (lost() > 0).then_some(()));
    world.mimeo(["exec", "talker", "echo", "alive"]).ok().printed("alive\n");
    filler.remove();
    let notice = "bytes of output could not be logged and are lost: No space left on device";
    until("the log says so", || world.mimeo(["logs", "talker"]).stderr.contains(notice).then_some(()));
    let ticks = || world.mimeo(["logs", "talker"]).stdout;
    assert!(ticks().lines().all(|line| line == "tick"), "{}", ticks());
    let before = ticks().len();
    until("the log continues", || (ticks().len() > before).then_some(()));
    world.mimeo(["rm", "-f", "talker"]).ok();
    world.assert_empty();
}

#[test]
fn a_machine_waits_for_space_on_the_hosts_disk() {
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "web", &[], "sleep 1000");
    let filler = Filler::new(&world.home());
    let writer = write_and_pause(&world, "web", &filler);
    let ps = world.mimeo(["ps", "--format", "{{.Status}}"]).ok();
    ps.printed("Paused (its disk cannot be written: No space left on device)\n");
    for (code, refused) in [
        (255, &["exec", "web", "true"][..]),
        (125, &["kill", "-s", "HUP", "web"]),
        (125, &["unpause", "web"]),
    ] {
        world.mimeo(refused).code(code).stderr_contains("the host cannot write its disk");
    }
    world.mimeo(["snapshot", "create", "web"]).code(125).stderr_contains("the host cannot write its disk");
    filler.remove();
    // A request does not wait for the next attempt to resume.
    world.mimeo(["exec", "web", "true"]).ok();
    Outcome::wait_for(writer).ok().printed("synced\n");
    assert_eq!(state(&world, "web")["PauseReason"], "");
    let shell = "touch /again && stat -c %s /file && md5sum /file >/dev/null";
    world.mimeo(["exec", "web", "sh", "-c", shell]).ok().printed("20971520\n");
    let events = world.mimeo(["events", "--since", "1h", "--stream=false"]).ok().stdout;
    let is_pause =
        |line: &&str| line.contains(" pause ") && line.contains("reason=its disk cannot be written");
    assert_eq!(events.lines().filter(is_pause).count(), 1, "{events}");
    assert_eq!(events.matches(" unpause ").count(), 1, "{events}");
    world.mimeo(["rm", "-f", "web"]).ok();
    world.assert_empty();
}

#[test]
fn a_machine_that_waits_for_space_resumes_by_itself() {
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "web", &[], "sleep 1000");
    let filler = Filler::new(&world.home());
    let writer = write_and_pause(&world, "web", &filler);
    filler.remove();
    Outcome::wait_for(writer).ok().printed("synced\n");
    until_status(&world, "web", "running");
}

#[test]
fn a_user_may_pause_a_machine_that_waits_for_space() {
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "web", &[], "sleep 1000");
    let filler = Filler::new(&world.home());
    let writer = write_and_pause(&world, "web", &filler);
    world.mimeo(["pause", "web"]).ok();
    assert_eq!(state(&world, "web")["PauseReason"], "");
    filler.remove();
    world.mimeo(["exec", "web", "true"]).code(255).stderr_contains("`mimeo unpause` resumes it");
    world.mimeo(["unpause", "web"]).ok();
    Outcome::wait_for(writer).ok().printed("synced\n");
}

#[test]
fn a_machine_that_waits_for_space_can_be_ended() {
    let world = World::on_disk_of(DISK_BYTES);
    for name in ["removed", "killed", "stopped"] {
        start(&world, name, &["--stop-timeout", "1"], "trap '' TERM; sleep 1000");
    }
    let filler = Filler::new(&world.home());
    let writers = ["removed", "killed", "stopped"].map(|name| write_and_pause(&world, name, &filler));
    world.mimeo(["rm", "-f", "removed"]).code(0).printed("removed\n");
    world.mimeo(["kill", "killed"]).code(0);
    world.mimeo(["stop", "stopped"]).code(0).printed("stopped\n");
    for writer in writers {
        assert_ne!(Outcome::wait_for(writer).code, 0);
    }
    let states = ["killed", "stopped"].map(|name| state(&world, name));
    assert!(
        states.iter().all(|state| state["ExitCode"] == 137 && state["Status"] == "exited"),
        "{states:#?}"
    );
    filler.remove();
    world.mimeo(["rm", "killed", "stopped"]).ok();
    world.assert_empty();
}

/// The status in a machine's file.
fn recorded(world: &World, id: &str) -> String {
    let file = world.home().join("machines").join(&id[..12]).join("machine.json");
    let record: Value = serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON");
    record["state"]["status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_end_on_a_full_disk_is_recorded_later() {
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "ends", &[], &format!("{WAIT}; exit 5"));
    start(&world, "crashes", &[], "sleep 1000");
    let ids = ["ends", "crashes"].map(|name| world.inspect(name)["Id"].as_str().expect("an id").to_owned());
    let supervisor = process(&world, "crashes", "Pid");
    // A guest with nothing to write to its disk is not paused.
    world.mimeo(["exec", "ends", "sync"]).ok();
    let filler = Filler::new(&world.home());
    world.mimeo(["exec", "ends", "touch", "/go"]).ok();
    kill_process(supervisor, Signal::KILL).expect("it runs");
    for (name, code) in [("ends", 5), ("crashes", 137)] {
        until_status(&world, name, "exited");
        assert_eq!(state(&world, name)["ExitCode"], code);
    }
    world.mimeo(["ps", "-q"]).code(0).printed("");
    assert!(ids.iter().all(|id| recorded(&world, id) == "running"));
    filler.remove();
    world.mimeo(["ps", "-q"]).code(0).printed("");
    assert!(ids.iter().all(|id| recorded(&world, id) == "exited"));
    assert_eq!(state(&world, "ends")["ExitCode"], 5);
    world.mimeo(["rm", "ends", "crashes"]).ok();
    assert_eq!(fs::read_dir(world.run_dir().join("records")).expect("readable").count(), 0);
    world.assert_empty();
}

#[test]
fn a_read_only_home_is_read() {
    use rustix::mount::{MountFlags, mount_remount};
    let world = World::on_disk_of(DISK_BYTES);
    start(&world, "crashes", &[], "echo out; sleep 1000");
    until("the output is logged", || (world.mimeo(["logs", "crashes"]).stdout == "out\n").then_some(()));
    kill_process(process(&world, "crashes", "Pid"), Signal::KILL).expect("it runs");
    world.wait_until_no_process();
    until("no file is open for writing", || mount_remount(world.home(), MountFlags::RDONLY, c"").ok());
    world.mimeo(["ps", "-q"]).code(0).printed("");
    let all = world.mimeo(["ps", "-a", "--format", "{{.Status}}"]).ok();
    assert!(all.stdout.starts_with("Exited (137)"), "{all:#?}");
    world.mimeo(["logs", "crashes"]).ok().printed("out\n");
    world.mimeo(["rm", "crashes"]).code(125).stderr_contains("Read-only file system");
    let image = world.busybox();
    world.mimeo(["run", "--rm", &image, "true"]).code(125).stderr_contains("Read-only file system");
    mount_remount(world.home(), MountFlags::empty(), c"").expect("remounted");
    world.mimeo(["rm", "crashes"]).ok();
    world.assert_empty();
}

#[test]
fn a_signal_that_is_not_acknowledged_delays_no_other_request() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    kill_process(process(&world, "web", "VmmPid"), Signal::STOP).expect("it runs");
    let silent = world.spawn(["kill", "-s", "HUP", "web"]);
    until("the signal is sent", || {
        let events = world.mimeo(["events", "--since", "1h", "--stream=false"]).ok().stdout;
        events.contains("signal=SIGHUP").then_some(())
    });
    // The machine is removed before the guest's time to acknowledge the signal is over.
    world.mimeo(["rm", "-f", "web"]).ok();
    let outcome = Outcome::wait_for(silent);
    assert!(outcome.code != 0 && !outcome.stderr.contains("does not answer"), "{outcome:#?}");
}

#[test]
fn output_to_a_full_device_is_reported() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let run = ["run", "--rm", &image];
    for (words, shell, code) in [
        (&run[..], "echo lost; echo kept >&2; exit 3", 3),
        (&run, "yes | head -c 2000000; echo kept >&2", 126),
        (&["exec", "web"], "echo lost; echo kept >&2; exit 3", 3),
        (&["exec", "web"], "yes | head -c 2000000; echo kept >&2", 126),
    ] {
        let mut command = world.command(words.iter().chain(&["sh", "-c", shell]));
        command.stdout(File::options().write(true).open("/dev/full").expect("opened"));
        let child = command.stderr(std::process::Stdio::piped()).spawn().expect("mimeo starts");
        let outcome = Outcome::wait_for(child).code(code);
        outcome.stderr_contains("kept\n").stderr_contains("No space left on device");
    }
}

#[test]
fn a_machine_ends_although_its_output_is_not_read() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let run = |name: &str, shell: &str| world.spawn(["run", "--name", name, &image, "sh", "-c", shell]);
    let ends = run("ends", "yes | head -c 900000; exit 3");
    until_status(&world, "ends", "exited");
    assert_eq!(state(&world, "ends")["ExitCode"], 3);
    // All that it has written can still be read.
    let outcome = Outcome::wait_for(ends).code(3);
    assert_eq!(outcome.stdout.len(), 900_000);
    // A machine whose output waits for the reader can be stopped.
    let mut stopped = run("stopped", "exec yes $(seq 300)");
    until_status(&world, "stopped", "running");
    let log = world.inspect("stopped")["LogPath"].as_str().expect("a path").to_owned();
    until("the output waits", || (fs::metadata(&log).expect("a log").len() > 1 << 20).then_some(()));
    world.mimeo(["stop", "stopped"]).code(0);
    assert_eq!(state(&world, "stopped")["ExitCode"], 143);
    // It need not be read at all.
    signal(&stopped, Signal::TERM);
    assert_eq!(stopped.wait().expect("it ends").code(), Some(143));
}
