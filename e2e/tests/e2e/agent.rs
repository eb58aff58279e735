//! The agent's guarantees inside the guest.

use e2e::{Image, Layer, User, World, until};
use serde_json::json;

#[test]
fn a_container_has_a_pid_namespace_and_orphans_are_reaped() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "(sleep 0.1 &) ; sleep 1; ps -o stat,comm | grep -c ' *Z' ; echo $$";
    world.mimeo(["run", "--rm", "--init", &image, "sh", "-c", shell]).code(0).printed("0\n2\n");
    world.mimeo(["run", "--rm", &image, "sh", "-c", "echo $$"]).ok().printed("1\n");
}

#[test]
fn exit_status_and_signals_are_reported() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["run", "--rm", &image, "sh", "-c", "exit 255"]).code(255);
    world.mimeo(["run", "--rm", "--init", &image, "sh", "-c", "kill -9 $$"]).code(137);
    world.start(["--name", "killed", &image, "sleep", "1000"]);
    world.mimeo(["kill", "-s", "USR1", "killed"]).ok();
    world.mimeo(["wait", "killed"]).ok().printed("138\n");
}

#[test]
fn an_oom_kill_is_reported() {
    let world = World::new(User::Root);
    let image = world.busybox();
    // Piece by piece, since the kernel may refuse a single large allocation instead.
    let hungry = r#"BEGIN { s = sprintf("%65536s", ""); while (1) a[i++] = s i }"#;
    world.start(["--name", "hungry", "-m", "128m", &image, "awk", hungry]);
    world.mimeo(["wait", "hungry"]).ok();
    let state = world.mimeo(["inspect", "hungry"]).ok().json()[0]["State"].clone();
    assert_eq!(
        (state["OOMKilled"].as_bool(), state["ExitCode"].as_i64()),
        (Some(true), Some(137)),
        "{state}"
    );
}

#[test]
fn stats_come_from_the_agent() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "busy", "-m", "256m", &image, "sh", "-c", "while :; do :; done"]);
    let stats = || world.mimeo(["stats", "--no-stream", "--json", "busy"]).ok().json()[0].clone();
    let first = stats();
    assert_eq!(first["source"], "agent", "{first}");
    let cpu = |stats: &serde_json::Value| stats["cpu_micros"].as_u64().expect("a counter");
    until("the CPU time grows", || (cpu(&stats()) > cpu(&first)).then_some(()));
    let total = first["memory_limit_bytes"].as_u64().expect("bytes");
    assert!((180 << 20..256 << 20).contains(&total), "{first}");
}

#[test]
fn the_root_filesystem_matches_the_image() {
    let world = World::new(User::Root);
    let image = Image::busybox("bits")
        .layer(
            Layer::default()
                .dir("data/", 0o755)
                .owned("data/owned", 0o640, 1000, "x")
                .file("data/setuid", 0o4755, "x")
                .file("data/gone", 0o644, "x")
                .dir("data/old/", 0o755)
                .file("data/old/file", 0o644, "x")
                .link("data/soft", "owned")
                .hard_link("data/hard", "data/owned"),
        )
        .layer(Layer::default().file("data/.wh.gone", 0o644, "").file("data/old/.wh..wh..opq", 0o644, "").file(
            "data/old/new",
            0o600,
            "y",
        ))
        .config("Cmd", json!(["sh", "-c", "cd /data; stat -c '%n %a %u %h' owned setuid hard; readlink soft; find . -type f | sort; ls /"]));
    let outcome = world.mimeo(["run", "--rm", &world.image(&image)]).ok();
    let expected =
        "owned 640 1000 2\nsetuid 4755 0 1\nhard 640 1000 2\nowned\n./hard\n./old/new\n./owned\n./setuid\n";
    assert!(outcome.stdout.starts_with(expected), "{outcome:#?}");
    assert!(!outcome.stdout.contains("lost+found"), "{outcome:#?}");
}

#[test]
fn writes_stay_in_their_machine() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world
        .mimeo(["run", "--rm", &image, "sh", "-c", "echo own > /etc/own; rm /etc/group; cat /etc/own"])
        .ok()
        .printed("own\n");
    world
        .mimeo(["run", "--rm", &image, "sh", "-c", "ls /etc/own; cat /etc/group | head -n 1"])
        .code(0)
        .printed("root:x:0:\n");
}
