//! Commands on existing machines.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use e2e::{Image, Outcome, User, World, as_root_and_user, sha256, until};
use serde_json::{Value, json};

/// A workload that handles SIGTERM and exits with code 3.
const HANDLES_TERM: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
/// A workload that ignores SIGTERM.
const IGNORES_TERM: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

fn until_ready(world: &World, name: &str) {
    until("the container is ready", || (world.mimeo(["logs", name]).stdout == "ready\n").then_some(()));
}

fn words(line: Option<&str>) -> Vec<&str> {
    line.unwrap_or_default().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()
}

#[test]
fn ps_has_podmans_columns_and_filters() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id =
        world.start(["--name", "web", "-l", "tier=front", "-p", "127.0.0.1::80", &image, "sleep", "1000"]);
    world.mimeo(["run", "--name", "job", &image, "sh", "-c", "exit 3"]).code(3);
    let table = world.mimeo(["ps", "-a"]).ok();
    let mut lines = table.stdout.lines();
    let headings = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    assert_eq!(words(lines.next()), headings);
    let job = words(lines.next());
    assert!(job[2] == "sh -c exit 3" && job[4].starts_with("Exited (3)") && job[5] == "job", "{table:#?}");
    let web = words(lines.next());
    assert_eq!(
        (web[0], web[1], web[2], web[6]),
        (&id[..12], "localhost/busybox:latest", "sleep 1000", "web")
    );
    assert!(web[4].starts_with("Up ") && web[5].ends_with("->80/tcp"), "{table:#?}");
    let names = |args: &[&str]| {
        let all = ["ps", "--format", "{{.Names}}"].iter().chain(args);
        world.mimeo(all).ok().stdout
    };
    for (filter, expected) in [
        ("name=we", "web\n"),
        ("status=exited", "job\n"),
        ("exited=3", "job\n"),
        ("label=tier=front", "web\n"),
        ("label=tier=back", ""),
        ("ancestor=busybox", "web\n"),
        (&format!("id={}", &id[..5]), "web\n"),
    ] {
        assert_eq!(names(&["--filter", filter]), expected, "{filter}");
    }
    world.mimeo(["ps", "--filter", "colour=red"]).code(125).stderr_contains("colour is an invalid filter");
    world.mimeo(["ps", "-q"]).ok().printed(&format!("{}\n", &id[..12]));
    let rows = world.mimeo(["ps", "-a", "--json"]).ok().json();
    let summary = |row: &Value| json!([row["Names"][0], row["State"], row["ExitCode"], row["Exited"]]);
    assert_eq!(
        (summary(&rows[0]), summary(&rows[1])),
        (json!(["job", "exited", 3, true]), json!(["web", "running", 0, false]))
    );
}

#[test]
fn inspect_shows_settings_and_state() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start([
        "--name",
        "web",
        "-e",
        "A=1",
        "-l",
        "tier=front",
        "-m",
        "256m",
        "-w",
        "/tmp",
        "-p",
        "127.0.0.1::80/udp",
        &image,
        "sleep",
        "1000",
    ]);
    let machine = world.mimeo(["inspect", "web"]).ok().json()[0].clone();
    for (pointer, expected) in [
        ("/Id", json!(id)),
        ("/Name", json!("web")),
        ("/Path", json!("sleep")),
        ("/Args", json!(["1000"])),
        ("/ImageName", json!("localhost/busybox:latest")),
        ("/Driver", json!("qemu")),
        ("/BootMethod", json!("warm")),
        ("/State/Status", json!("running")),
        ("/State/Running", json!(true)),
        ("/Config/Hostname", json!(id[..12])),
        ("/Config/WorkingDir", json!("/tmp")),
        ("/Config/Labels/tier", json!("front")),
        ("/HostConfig/Memory", json!(256 << 20)),
        ("/HostConfig/Cpus", json!(1)),
        ("/NetworkSettings/IPAddress", json!("10.201.0.2")),
        ("/NetworkSettings/Ports/80~1udp/0/HostIp", json!("127.0.0.1")),
    ] {
        assert_eq!(machine.pointer(pointer), Some(&expected), "{pointer}: {machine:#}");
    }
    assert!(machine["Config"]["Env"].as_array().expect("a list").contains(&json!("A=1")), "{machine:#}");
    let stages: Vec<_> =
        machine["Stages"].as_array().expect("a list").iter().map(|stage| &stage["Stage"]).collect();
    assert_eq!(stages, ["plan", "image", "network", "launch", "boot", "configure", "start"]);
    let format = "{{.State.Status}} {{.Config.Hostname}}";
    world.mimeo(["inspect", "-f", format, "web"]).ok().printed(&format!("running {}\n", &id[..12]));
    world.mimeo(["inspect", "web", "nobody"]).code(125).stderr_contains("no such object: \"nobody\"");
    world.mimeo(["rm", "-f", "web"]).ok();
    world.mimeo(["inspect", "web"]).code(125).printed("[]\n");
}

#[test]
fn machines_are_found_by_name_id_prefix_and_pid() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", &image, "sleep", "1000"]);
    let pid = world.mimeo(["inspect", "-f", "{{.State.Pid}}", "web"]).ok().text().to_owned();
    let found = |args: &[&str]| world.mimeo(["inspect", "-f", "{{.Name}}"].iter().chain(args)).ok().stdout;
    for args in [&["web"][..], &[&id], &[&id[..12]], &[&id[..3]], &["--pid", &pid]] {
        assert_eq!(found(args), "web\n", "{args:?}");
    }
    // A second machine whose id has the same prefix.
    let dir = world.home().join("machines").join(&id[..12]);
    let end = if id.ends_with('0') { "1" } else { "0" };
    let like = format!("{}{}", &id[..4], end.repeat(60));
    let twin = world.home().join("machines").join(&like[..12]);
    fs::create_dir(&twin).expect("made");
    let text = fs::read_to_string(dir.join("machine.json")).expect("read");
    let text = text.replace(&id, &like).replace("\"web\"", "\"twin\"");
    fs::write(twin.join("machine.json"), text).expect("written");
    // It has no supervisor, so it counts as ended.
    world.mimeo(["ps"]).code(0).stderr_contains("twin");
    let several = format!("{:?} is the beginning of several ids", &id[..4]);
    world.mimeo(["inspect", &id[..4]]).code(125).stderr_contains(&several);
    world.mimeo(["rm", "-f", &id[..4]]).code(125).stderr_contains(&several);
    world.mimeo(["exec", &id[..4], "true"]).code(125).stderr_contains(&several);
    world.mimeo(["exec", "--pid", "1", "true"]).code(125).stderr_contains("no such container");
    world.mimeo(["rm", "twin"]).ok().printed("twin\n");
}

as_root_and_user!(logs_keep_stdout_and_stderr_apart, |world| {
    let image = world.busybox();
    let shell = "echo one; echo two >&2; printf thr; printf ee; echo; printf end";
    world.start(["--name", "talker", &image, "sh", "-c", shell]);
    world.mimeo(["wait", "talker"]).ok().printed("0\n");
    let logs = |args: &[&str]| {
        let outcome = world.mimeo(["logs"].iter().chain(args).chain(&["talker"])).code(0);
        (outcome.stdout, outcome.stderr)
    };
    let all = ("one\nthree\nend".to_owned(), "two\n".to_owned());
    assert_eq!(logs(&[]), all);
    assert_eq!(logs(&["-f"]), all);
    assert_eq!(logs(&["--since", "1h", "--until", "2100-01-01T00:00:00Z"]), all);
    assert_eq!(logs(&["--since", "2100-01-01"]), Default::default());
    assert_eq!(logs(&["--until", "1h"]), Default::default());
    let (stdout, stderr) = logs(&["--tail", "2"]);
    assert_eq!(stdout.lines().count() + stderr.lines().count(), 2, "{stdout:?} {stderr:?}");
    assert_eq!(logs(&["--tail", "0"]), Default::default());
    let (stdout, _) = logs(&["-t"]);
    assert!(stdout.lines().all(|line| line.starts_with("20") && line.as_bytes()[10] == b'T'), "{stdout}");
    world.mimeo(["logs", "--tail", "many", "talker"]).code(125).stderr_contains("neither a number");
    world.mimeo(["logs", "nobody"]).code(125).stderr_contains("no such container");
});

#[test]
fn logs_follow_ends_with_the_machine() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "echo first; while [ ! -e /end ]; do sleep 0.1; done; echo last";
    world.start(["--name", "talker", "--rm", &image, "sh", "-c", shell]);
    let mut child = world.spawn(["logs", "-f", "talker"]);
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "first\n");
    world.mimeo(["exec", "talker", "touch", "/end"]).ok();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!((rest.as_str(), child.wait().expect("ends").code()), ("last\n", Some(0)));
}

as_root_and_user!(exec_applies_its_options, |world| {
    let image = world.busybox();
    world.start(["--name", "web", "-e", "OWN=kept", &image, "sleep", "1000"]);
    let exec = |args: &[&str]| world.mimeo(["exec"].iter().chain(args));
    world.file("env", "B=file\n");
    exec(&[
        "-e",
        "A=1",
        "--env-file",
        "env",
        "-w",
        "/tmp",
        "-u",
        "app",
        "web",
        "sh",
        "-c",
        "echo $A $B $OWN $(pwd) $(id -u) $HOME",
    ])
    .ok()
    .printed("1 file kept /tmp 1000 /home/app\n");
    let both = exec(&["web", "sh", "-c", "echo out; echo err >&2; exit 7"]).code(7);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    exec(&["web", "nosuch"]).code(127).stderr_contains("nosuch");
    exec(&["web", "/etc/passwd"]).code(126).stderr_contains("/etc/passwd");
    exec(&["web", "/etc"]).code(126).stderr_contains("/etc");
    exec(&["-w", "/nowhere", "web", "true"]).code(126).stderr_contains("/nowhere");
    exec(&["-u", "nobody-here", "web", "true"]).code(255).stderr_contains("nobody-here");
    exec(&["web", "sh", "-c", "kill -9 $$"]).code(137);
    let input: Vec<u8> =
        (0..2_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let sum = world.mimeo_with_input(["exec", "-i", "web", "sha256sum"], &input).ok();
    assert_eq!(sum.stdout, format!("{}  -\n", sha256(&input)));
    world.mimeo_with_input(["exec", "web", "cat"], b"never read").ok().printed("");
    let output = world.command(["exec", "web", "cat", "/bin/busybox"]).output().expect("runs");
    assert_eq!(sha256(&output.stdout), sha256(&fs::read("/bin/busybox").expect("read")));
    world.mimeo(["stop", "web"]).ok();
    exec(&["web", "true"]).code(255).stderr_contains("not running");
});

#[test]
fn exec_gives_a_terminal_and_runs_twenty_at_once() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let outcome =
        world.mimeo_on_terminal(&["exec", "-it", "web", "sh", "-c", "tty; stty size; echo $TERM"]).code(0);
    assert_eq!(outcome.stdout.trim_start_matches("^@"), "/dev/pts/0\r\n33 99\r\nxterm\r\n", "{outcome:#?}");
    let children: Vec<_> =
        (0..20).map(|n| world.spawn(["exec", "web", "sh", "-c", &format!("echo {n}; exit {n}")])).collect();
    for (n, child) in children.into_iter().enumerate() {
        Outcome::wait_for(child).code(n as i32).printed(&format!("{n}\n"));
    }
    let pid = world.mimeo(["exec", "-d", "web", "sh", "-c", "touch /detached; exec sleep 1000"]).ok();
    let shown = format!("/proc/{}/comm", pid.text());
    until("the detached process runs", || {
        (world.mimeo(["exec", "web", "cat", &shown]).stdout == "sleep\n").then_some(())
    });
}

as_root_and_user!(stop_terminates_then_kills, |world| {
    let image = world.busybox();
    world.start(["--name", "graceful", &image, "sh", "-c", HANDLES_TERM]);
    world.start(["--name", "stubborn", &image, "sh", "-c", IGNORES_TERM]);
    until_ready(world, "graceful");
    until_ready(world, "stubborn");
    world.mimeo(["stop", "graceful"]).ok().printed("graceful\n");
    world.mimeo(["wait", "graceful"]).ok().printed("3\n");
    world.mimeo(["stop", "-t", "1", "stubborn"]).ok().printed("stubborn\n");
    world.mimeo(["wait", "stubborn"]).ok().printed("137\n");
    // Stopping again is not an error.
    world.mimeo(["stop", "-a"]).ok();
    world.mimeo(["stop", "graceful", "stubborn"]).ok().printed("graceful\nstubborn\n");
    world
        .mimeo(["stop", "nobody", "graceful"])
        .code(125)
        .stderr_contains("no such container")
        .printed("graceful\n");
    world.mimeo(["rm", "graceful", "stubborn"]).ok();
    world.assert_empty();
});

#[test]
fn kill_signals_and_rm_removes() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let handler = "trap 'echo hup' HUP; trap 'exit 4' USR1; echo ready; while :; do sleep 0.1; done";
    world.start(["--name", "web", "--stop-signal", "USR1", &image, "sh", "-c", handler]);
    until_ready(&world, "web");
    world.mimeo(["rm", "web"]).code(2).stderr_contains("it is running: stop it first, or use --force");
    world.mimeo(["kill", "-s", "HUP", "web"]).ok().printed("web\n");
    until("the signal is handled", || (world.mimeo(["logs", "web"]).stdout == "ready\nhup\n").then_some(()));
    world.mimeo(["kill", "-s", "NONSENSE", "web"]).code(125).stderr_contains("NONSENSE");
    world.mimeo(["stop", "web"]).ok();
    world.mimeo(["wait", "web"]).ok().printed("4\n");
    world.mimeo(["kill", "web"]).code(125).stderr_contains("not running");
    world.mimeo(["rm", "web"]).ok().printed("web\n");
    world.mimeo(["rm", "web"]).code(1).stderr_contains("no such container");
    world.mimeo(["rm", "-f", "web"]).ok();
    world.start(["--name", "stubborn", &image, "sh", "-c", IGNORES_TERM]);
    let waiting = world.spawn(["wait", "stubborn"]);
    world.mimeo(["kill", "stubborn"]).ok();
    Outcome::wait_for(waiting).ok().printed("137\n");
    world.start(["--name", "other", &image, "sleep", "1000"]);
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.assert_empty();
}

#[test]
fn concurrent_waits_and_stops_see_the_exit() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    world.mimeo(["kill", "web"]).ok();
    let spawn_many = |verb| (0..12).map(|_| world.spawn([verb, "web"])).collect::<Vec<_>>();
    let (waiting, stopping) = (spawn_many("wait"), spawn_many("stop"));
    waiting.into_iter().for_each(|child| drop(Outcome::wait_for(child).ok().printed("137\n")));
    stopping.into_iter().for_each(|child| drop(Outcome::wait_for(child).ok().printed("web\n")));
}

as_root_and_user!(a_paused_machine_does_not_run, |world| {
    let image = world.busybox();
    let tick = "while :; do echo tick; sleep 0.05; done";
    world.start(["--name", "paused", &image, "sh", "-c", tick]);
    world.start(["--name", "clock", &image, "sh", "-c", tick]);
    let ticks = |name: &str| world.mimeo(["logs", name]).ok().stdout.lines().count();
    let wait_for_ticks = |count: usize| {
        let before = ticks("clock");
        until("the other machine ticks", || (ticks("clock") > before + count).then_some(()));
    };
    wait_for_ticks(1);
    world.mimeo(["pause", "paused"]).ok().printed("paused\n");
    // Output from before the pause has arrived by then.
    wait_for_ticks(3);
    let frozen = ticks("paused");
    wait_for_ticks(20);
    assert_eq!(ticks("paused"), frozen);
    world.mimeo(["exec", "paused", "true"]).code(255).stderr_contains("it is paused");
    world.mimeo(["kill", "-s", "TERM", "paused"]).code(125).stderr_contains("it is paused");
    world
        .mimeo(["ps", "-f", "status=paused", "--format", "{{.Names}} {{.Status}}"])
        .ok()
        .printed("paused Paused\n");
    world.mimeo(["unpause", "paused"]).ok().printed("paused\n");
    world.mimeo(["unpause", "paused"]).code(125).stderr_contains("it is not paused");
    until("the machine resumes", || (ticks("paused") > frozen).then_some(()));
    world.mimeo(["exec", "paused", "echo", "awake"]).ok().printed("awake\n");
    world.mimeo(["pause", "paused"]).ok();
    world.mimeo(["stop", "-t", "0", "paused"]).ok();
    world.mimeo(["rm", "paused"]).ok();
});

#[test]
fn events_report_a_machines_lifecycle() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let mut follower = world.spawn(["events", "--json", "--filter", "container=job"]);
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    world.mimeo(["run", "--rm", "--name", "other", &image, "true"]).ok();
    world.mimeo(["run", "--name", "job", &image, "sh", "-c", "exit 3"]).code(3);
    world.mimeo(["rm", "job"]).ok();
    let past = world.mimeo(["events", "--no-stream", "--json", "-f", "container=job"]).ok().stdout;
    let mut seen = Vec::new();
    for line in past.lines() {
        let followed = lines.next().expect("a line").expect("text");
        assert_eq!(followed, line);
        seen.push(serde_json::from_str::<Value>(line).expect("JSON"));
    }
    let statuses: Vec<_> = seen.iter().map(|event| event["Status"].as_str().unwrap_or_default()).collect();
    assert_eq!(statuses, ["create", "start", "died", "remove"]);
    assert_eq!(seen[2]["ContainerExitCode"], 3, "{}", seen[2]);
    world.mimeo(["events", "--no-stream", "--since", "2100-01-01"]).ok().printed("");
    world
        .mimeo(["events", "--no-stream", "-f", "event=died", "--format", "{{.Name}}"])
        .ok()
        .printed("other\njob\n");
    follower.kill().expect("killed");
    follower.wait().expect("ends");
}

as_root_and_user!(files_are_copied_both_ways, |world| {
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let sh = |shell: &str| world.mimeo(["exec", "web", "sh", "-c", shell]).ok();
    let cp = |from: &str, to: &str| world.mimeo(["cp", from, to]);
    let noise: Vec<u8> =
        (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = world.file("file", &noise);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).expect("changed");
    cp("file", "web:/tmp").ok().printed("");
    cp("file", "web:tmp/other").ok();
    // The file belongs to the user on the host and to root in the machine.
    sh("cd /tmp; sha256sum file; cmp file other; stat -c '%a %u:%g' file")
        .printed(&format!("{}  file\n750 0:0\n", sha256(&noise)));
    cp("web:/tmp/file", "back").ok();
    let back = fs::metadata(world.files().join("back")).expect("there");
    assert_eq!(sha256(&fs::read(world.files().join("back")).expect("read")), sha256(&noise));
    assert_eq!(
        (back.permissions().mode() & 0o777, back.uid()),
        (0o750, fs::metadata(&file).expect("there").uid())
    );
    world.file("tree/deep/file", "content");
    std::os::unix::fs::symlink("deep/file", world.files().join("tree/link")).expect("linked");
    cp("tree", "web:/srv").ok();
    cp("tree", "web:/srv").ok();
    cp("tree/.", "web:/tmp").ok();
    sh("cat /srv/deep/file /srv/tree/link /tmp/deep/file; readlink /tmp/link")
        .printed("contentcontentcontentdeep/file\n");
    cp("web:/srv", "copied").ok();
    assert_eq!(fs::read_to_string(world.files().join("copied/tree/link")).expect("read"), "content");
    // A tar stream preserves owners.
    sh("cd /tmp; mkdir app; echo own > app/file; chown -R app:app app");
    let tar = world.command(["cp", "web:/tmp/app", "-"]).output().expect("runs");
    assert!(tar.status.success(), "{tar:?}");
    world.mimeo_with_input(["cp", "-", "web:/srv"], &tar.stdout).ok();
    sh("stat -c %u:%g /srv/app/file; cat /srv/app/file").printed("1000:1000\nown\n");
    for (from, to, reason) in [
        ("web:/nothing", "here", "could not be found"),
        ("nothing", "web:/tmp", "nothing"),
        ("file", "web:/nothing/", "could not be found"),
        ("tree", "web:/etc/passwd", "must be a directory"),
        ("file", "here", "the source or the destination must be MACHINE:PATH"),
        ("nobody:/etc", "here", "no such container"),
    ] {
        cp(from, to).code(125).stderr_contains(reason);
    }
});

#[test]
fn top_and_stats_show_processes_and_memory() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", "-u", "app", &image, "sleep", "1000"]);
    world.start(["--name", "gone", &image, "true"]);
    world.mimeo(["wait", "gone"]).ok();
    let table = world.mimeo(["top", "web"]).ok();
    let mut lines = table.stdout.lines();
    let headings = ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"];
    assert_eq!(words(lines.next()), headings);
    let process = words(lines.next());
    assert_eq!((process[0], process[1], process.last()), ("app", "1", Some(&"sleep 1000")), "{table:#?}");
    assert_eq!(lines.next(), None, "{table:#?}");
    let json = world.mimeo(["top", "--json", "web"]).ok().json();
    assert_eq!((&json[0]["Uid"], &json[0]["Command"]), (&json!(1000), &json!("sleep 1000")), "{json}");
    world.mimeo(["top", "gone"]).code(125).stderr_contains("not running");
    let stats = world.mimeo(["stats", "--no-stream"]).ok();
    let rows: Vec<_> = stats.stdout.lines().skip(1).map(|line| words(Some(line))).collect();
    assert_eq!((rows.len(), rows[0][0], rows[0][1]), (1, &id[..12], "web"), "{stats:#?}");
    // The agent of a paused guest cannot answer, so the host's figures are shown.
    world.mimeo(["pause", "web"]).ok();
    let stats = world.mimeo(["stats", "--no-stream", "--json", "web"]).ok().json()[0].clone();
    assert_eq!(stats["source"], "vmm", "{stats}");
    assert!(stats["host_pss_bytes"].as_u64() > Some(1 << 20), "{stats}");
    world.mimeo(["top", "web"]).code(125).stderr_contains("it is paused");
    world.mimeo(["unpause", "web"]).ok();
}

#[test]
fn control_characters_of_an_image_are_escaped() {
    let world = World::new(User::Root);
    let image = Image::busybox("hostile").config("Cmd", json!(["echo", "\u{1b}[2Jx\u{7}"]));
    let image = world.image(&image);
    world.mimeo(["run", "--name", "job", &image]).code(0).printed("\u{1b}[2Jx\u{7}\n");
    for args in [&["ps", "-a"][..], &["ps", "-a", "--no-trunc"], &["inspect", "job"]] {
        let shown = world.mimeo(args).ok().stdout;
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{args:?}: {shown:?}");
    }
}
