//! `mimeo run`: podman's options, defaults and output.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use e2e::{Image, User, World, as_root_and_user, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

as_root_and_user!(run_passes_output_and_exit_code_through, |world| {
    let image = world.busybox();
    world.mimeo(["run", "--rm", &image, "echo", "hello"]).ok().printed("hello\n");
    let outcome = world.mimeo(["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 7"]).code(7);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
});

#[test]
fn the_podman_alias_works() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["podman", "run", "--rm", &image, "echo", "hello"]).ok().printed("hello\n");
}

as_root_and_user!(options_override_the_images_settings, |world| {
    let image = Image::busybox("settings")
        .config("Env", json!(["A=image", "B=image"]))
        .config("WorkingDir", json!("/home/app"))
        .config("User", json!("app"))
        .config("Entrypoint", json!(["sh", "-c"]))
        .config("Cmd", json!(["echo $A $B $(pwd) $(id -u):$(id -g) $(id -G) $HOME"]));
    let image = world.image(&image);
    world
        .mimeo(["run", "--rm", "-e", "A=own", &image])
        .ok()
        .printed("own image /home/app 1000:1000 1000 2000 /home/app\n");
    let file = world.file("env", "# a comment\nB=file\n\nC=x=y\n");
    let shell = "echo $B $C $(pwd) $(id -u) $(hostname) $HOSTNAME";
    world
        .mimeo(["run", "--rm", "--env-file", file.to_str().expect("text"), "-w", "/new/dir", "-u", "0"])
        .code(125);
    world
        .mimeo([
            "run",
            "--rm",
            "--env-file",
            file.to_str().expect("text"),
            "-w",
            "/new/dir",
            "-u",
            "0",
            "--hostname",
            "box",
            "--entrypoint",
            "/bin/sh",
            &image,
            "-c",
            shell,
        ])
        .ok()
        .printed("file x=y /new/dir 0 box box\n");
});

#[test]
fn cpus_and_memory_match_the_options() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "nproc; grep MemTotal /proc/meminfo";
    let outcome = world.mimeo(["run", "--rm", "--cpus", "2", "-m", "256m", &image, "sh", "-c", shell]).ok();
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("2"));
    let total: u64 = lines
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("a number of kilobytes");
    assert!((180_000..262_144).contains(&total), "{total} kB of 256 MiB");
}

#[test]
fn output_is_streamed() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let mut child = world.spawn(["run", "--rm", &image, "sh", "-c", "echo first; sleep 3; echo second"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "first");
    let first = Instant::now();
    assert_eq!(next(), "second");
    assert!(first.elapsed() > Duration::from_secs(1), "both lines arrived together");
    assert!(child.wait().expect("ends").success());
}

as_root_and_user!(standard_input_is_passed_on, |world| {
    let image = world.busybox();
    let input: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let sum = world.mimeo_with_input(["run", "--rm", "-i", &image, "md5sum"], &input).ok();
    let mut local = world.program("md5sum");
    let path = world.file("input", &input);
    local.arg(path);
    let expected = world.finish(local).ok();
    assert_eq!(sum.stdout.split(' ').next(), expected.stdout.split(' ').next());
    world.mimeo_with_input(["run", "--rm", &image, "cat"], b"never read").ok().printed("");
});

as_root_and_user!(signals_are_forwarded_and_ctrl_c_ends_the_run, |world| {
    let image = world.busybox();
    let handler = "trap 'echo got TERM; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = world.spawn(["run", "--rm", &image, "sh", "-c", handler]);
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    signal(child.id(), Signal::TERM);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "got TERM\n");
    assert_eq!(child.wait().expect("ends").code(), Some(3));

    // A command without signal handlers is ended by the signal, although it is PID 1.
    let mut child = world.spawn(["run", "--rm", &image, "sh", "-c", "echo ready; exec sleep 1000"]);
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    world.wait_until_no_process();
});

#[test]
fn ctrl_c_at_any_stage_leaves_nothing() {
    let world = World::new(User::Root);
    let image = world.busybox();
    // An uninterrupted run first, so that the image is in the store and the stages take equally long below.
    world.mimeo(["run", "--rm", &image, "true"]).ok();
    for millis in [0, 5, 20, 60, 120, 250, 500, 900, 1300, 1700, 2100] {
        let mut child = world.spawn(["run", "--rm", &image, "sleep", "1000"]);
        std::thread::sleep(Duration::from_millis(millis));
        signal(child.id(), Signal::INT);
        let status = child.wait().expect("ends");
        use std::os::unix::process::ExitStatusExt;
        assert!(status.code() == Some(130) || status.signal() == Some(2), "after {millis} ms: {status:?}");
        assert_eq!(world.processes(), [], "after {millis} ms");
        world.mimeo(["ps", "-a", "-q"]).ok().printed("");
    }
}

as_root_and_user!(run_gives_a_terminal, |world| {
    let image = world.busybox();
    let args = ["run", "--rm", "-it", &image, "sh", "-c", "tty; stty size; echo $TERM"];
    world.mimeo_on_terminal(&args).code(0).printed("/dev/pts/0\r\n33 99\r\nxterm\r\n");
});

#[test]
fn a_detached_run_prints_its_id_and_keeps_running() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--rm", &image, "sleep", "1000"]);
    assert_eq!(id.len(), 64);
    world.mimeo(["ps", "-q", "--no-trunc"]).ok().printed(&format!("{id}\n"));
    world.mimeo(["exec", &id[..8], "echo", "hi"]).ok().printed("hi\n");
    world.mimeo(["stop", &id]).ok();
    until("the machine is gone", || world.mimeo(["ps", "-a", "-q"]).stdout.is_empty().then_some(()));
}

#[test]
fn a_containers_own_arguments_are_no_options_of_a_detached_run() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start([&image, "echo", "--log-level", "loud"]);
    world.mimeo(["wait", &id]).ok().printed("0\n");
    world.mimeo(["logs", &id]).ok().printed("--log-level loud\n");
}

#[test]
fn health_checks_use_a_command_or_a_url() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let well = "mkdir /www; echo ok > /www/index.html; exec httpd -f -p 8000 -h /www";
    world.start(["--name", "url", "--health-url", "http://127.0.0.1:8000/", &image, "sh", "-c", well]);
    world.start([
        "--name",
        "cmd",
        "--health-cmd",
        "test -e /unwell && exit 1 || exit 0",
        "--health-interval",
        "300ms",
        &image,
        "sleep",
        "1000",
    ]);
    let health = |name: &str| {
        let state = world.mimeo(["inspect", name]).ok().json()[0]["State"].clone();
        state["Health"]["Status"].as_str().unwrap_or_default().to_owned()
    };
    until("the URL answers", || (health("url") == "healthy").then_some(()));
    until("the command succeeds", || (health("cmd") == "healthy").then_some(()));
    world.mimeo(["exec", "cmd", "touch", "/unwell"]).ok();
    until("the command fails", || (health("cmd") == "unhealthy").then_some(()));
    let table = world.mimeo(["ps"]).ok().stdout;
    assert!(table.contains("(healthy)") && table.contains("(unhealthy)"), "{table}");
}

#[test]
fn a_closed_output_pipe_ends_the_container() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let mut child = world.spawn(["run", "--rm", &image, "yes"]);
    let mut stdout = child.stdout.take().expect("piped");
    let mut some = vec![0; 1 << 20];
    stdout.read_exact(&mut some).expect("a MiB of output");
    drop(stdout);
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(141), "128 + SIGPIPE");
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    kill_process(pid, signal).expect("the process runs");
}
