//! Errors are reported with podman's exit codes and leave nothing behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use e2e::{Image, Layer, Outcome, Registry, StallingProxy, User, World, as_root_and_user, signal, until};
use rustix::process::Signal;
use serde_json::json;

/// Asserts that `run` with `args` is refused with `reason` and leaves nothing.
#[track_caller]
fn assert_refused(world: &World, args: &[&str], reason: &str) -> Outcome {
    let outcome =
        world.mimeo(["run", "--rm"].iter().chain(args)).code(125).stderr_contains(reason).printed("");
    assert!(outcome.stderr.starts_with("Error: "), "{outcome:#?}");
    world.assert_empty();
    outcome
}

/// Like [`assert_refused`]; also asserts that no visible part of an image is left.
#[track_caller]
fn assert_image_refused(world: &World, image: &str, reason: &str) -> Outcome {
    let outcome = assert_refused(world, &[image, "true"], reason);
    world.mimeo(["images", "-q"]).ok().printed("");
    for dir in ["rootfs", "tmp"] {
        let left: Vec<_> =
            fs::read_dir(world.home().join("images").join(dir)).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    outcome
}

as_root_and_user!(a_missing_image_or_registry_is_refused, |world| {
    let registry = Registry::start();
    let missing = format!("{}/nothing:1", registry.address);
    assert_image_refused(world, &missing, "the registry does not have it").stderr_contains(&missing);
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    assert_image_refused(world, &format!("{closed}/nothing"), "the registry cannot be reached")
        .stderr_contains(&closed.to_string());
    assert_image_refused(world, "Not A Name", "\"Not A Name\" is not an image name");
    assert_image_refused(world, "oci:./nowhere", "oci:./nowhere");
});

#[test]
fn a_layer_with_a_wrong_digest_is_refused() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    drop(world.busybox());
    let image = registry.push(&world.files().join("busybox"), "wrong");
    let blob = registry.largest_blob();
    let content = fs::read(&blob).expect("read");
    let digest = format!("sha256:{}", e2e::sha256(&content));
    let mut wrong = content.clone();
    wrong[content.len() / 2] ^= 1;
    fs::write(&blob, &wrong).expect("written");
    assert_image_refused(&world, &image, "the registry sent content of the digest").stderr_contains(&digest);
    // With the correct content the pull succeeds at once.
    fs::write(&blob, &content).expect("written");
    world.mimeo(["pull", "-q", &image]).ok();
}

#[test]
fn a_truncated_or_foreign_image_is_refused() {
    let world = World::new(User::Root);
    let cut = world.image(&Image::busybox("cut").truncated());
    let refusal = assert_image_refused(&world, &cut, "is refused");
    assert!(
        refusal.stderr.contains("ends too early") || refusal.stderr.contains("decompressed"),
        "{refusal:#?}"
    );
    let foreign = world.image(&Image::busybox("foreign").architecture("arm64"));
    assert_image_refused(&world, &foreign, "linux/amd64").stderr_contains("linux/arm64");
    let nothing = world.image(&Image::busybox("nothing").config("Cmd", json!([])));
    assert_refused(
        &world,
        &[&nothing],
        "no command to run: neither the image nor the command line names one",
    );
}

#[test]
fn hostile_layers_are_refused() {
    let world = World::new(User::Root);
    for (name, layer, reason) in [
        ("climbs", Layer::default().file("../../tmp/mimeo-escaped", 0o644, "x"), "its path contains '..'"),
        ("hard", Layer::default().hard_link("x", "../../etc/shadow"), "contains '..'"),
        (
            "through",
            Layer::default().link("out", "/etc").hard_link("x", "out/mimeo-absent"),
            "does not exist in the image",
        ),
        (
            "circle",
            Layer::default().link("a", "b").link("b", "a").file("a/x", 0o644, ""),
            "follows more than 40 symbolic links",
        ),
        (
            "bomb",
            Layer::default().sparse_file("zeros", 11 << 30),
            "unpacks to more than the limit of 10737418240 bytes",
        ),
    ] {
        let image = world.image(&Image::busybox(name).layer(layer));
        assert_image_refused(&world, &image, reason)
            .stderr_contains("layer sha256:")
            .stderr_contains("is refused at entry");
    }
    assert!(!std::path::Path::new("/tmp/mimeo-escaped").exists());
}

#[test]
fn odd_layers_stay_within_the_image() {
    let world = World::new(User::Root);
    let layer = Layer::default()
        .file("/absolute", 0o644, "stripped\n")
        .dir("inner/", 0o755)
        .link("out", "../../../../inner")
        .file("out/escaped", 0o644, "inside\n")
        .device("dev-null", 1, 3);
    let image = world.image(&Image::busybox("odd").layer(layer));
    let shell = "cat /absolute /inner/escaped; stat -c %F:%t:%T /dev-null";
    world
        .mimeo(["run", "--rm", &image, "sh", "-c", shell])
        .ok()
        .printed("stripped\ninside\ncharacter special file:1:3\n");
}

#[test]
fn an_unrunnable_command_is_126_or_127() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for (command, code) in [("nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)] {
        world.mimeo(["run", "--rm", &image, command]).code(code).stderr_contains(command);
        world.assert_empty();
    }
    world.mimeo(["run", "-d", &image, "nosuch"]).code(127).stderr_contains("nosuch").printed("");
    world.assert_empty();
}

#[test]
fn an_unknown_user_is_refused() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["run", "--rm", "-u", "stranger", &image, "true"]).code(126).stderr_contains("stranger");
    world.assert_empty();
}

#[test]
fn invalid_options_are_refused() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["pull", "-q", &image]).code(0);
    for (args, reason) in [
        (&["--cpus", "0"][..], "--cpus must be at least 0.01, not 0"),
        (&["--cpus", "-1"], "is not a number of CPUs"),
        (&["--cpus", "half"], "is not a number of CPUs"),
        (&["--cpus", "100000"], "--cpus must be between 1 and"),
        (&["-m", "16m"], "--memory must be between 96 and"),
        (&["-m", "1000g"], "cannot give a machine 1024000 MiB of memory: this host has"),
        (&["-m", "lots"], "\"lots\" is not a size"),
        (&["--disk", "1k"], "--disk must be between"),
        (&["--driver", "abacus"], "there is no driver \"abacus\": this mimeo has firecracker, qemu"),
        (&["-v", "/no/such/dir:/x"], "volume /no/such/dir does not exist on this host"),
        (
            &["-v", "/tmp:relative"],
            "has no absolute path in the container: \"relative\" does not begin with /",
        ),
        (&["-v", "/tmp:/x:shiny"], "has an unknown option \"shiny\""),
        (&["--name", "../etc"], "\"../etc\" is not a valid name"),
        (&["--name", "a b"], "\"a b\" is not a valid name"),
        (&["--name", ""], "\"\" is not a valid name"),
        (&["--hostname=-x-"], "is not a host name"),
        (&["--env-file", "nowhere.env"], "cannot read --env-file nowhere.env: No such file"),
        (&["-p", "99999:80"], "99999"),
        (&["-p", "none"], "none"),
        (&["--entrypoint", "[1]"], "is not a JSON array"),
        (&["--add-host", "x"], "is not NAME:IP"),
        (&["--stop-signal", "LOUD"], "LOUD"),
        (&["--health-url", "ftp://x"], "does not start with http://"),
        (&["-w", "relative"], "is not an absolute path in the container"),
        (&["--cap-add", "nonesuch"], "\"nonesuch\" is not a capability"),
        (&["--cap-add", "chown", "--cap-drop", "CAP_CHOWN"], "cannot both add and drop CAP_CHOWN"),
        (&["--security-opt", "seccomp=profile.json"], "only seccomp=unconfined is possible"),
        (&["--security-opt", "shiny"], "it is unknown"),
        (&["--group-add", "keep-groups"], "none of the groups of this host's user"),
        (&["--ulimit", "nofile"], "is not NAME=SOFT[:HARD]"),
        (&["--ulimit", "nofile=5:3"], "has a soft limit above its hard limit"),
        (&["--ulimit", "shiny=5"], "names no resource"),
        (&["--pids-limit", "-5"], "is not a number of processes"),
        (&["--memory-swap", "1t"], "cannot give the machine swap"),
        (&["--memory-swap", "1m"], "is less than --memory"),
        (&["--sysctl", "kernel"], "is not NAME=VALUE"),
        (&["--tmpfs", "relative"], "has no absolute path"),
        (&["--tmpfs", "/x:shiny"], "has an unknown option \"shiny\""),
        (&["--tmpfs", "/proc"], "cannot replace /proc"),
        (&["--tmpfs", "/x/y", "-v", "/tmp:/x"], "cannot mount a tmpfs on /x/y with a volume on /x"),
        (&["--shm-size", "0"], "--shm-size must be greater than 0"),
        (&["--tz", "Nowhere"], "cannot use the time zone \"Nowhere\""),
        (&["--umask", "rwx"], "is not a mask of octal digits"),
        (&["--oom-score-adj", "2000"], "--oom-score-adj must be between -1000 and 1000, not 2000"),
    ] {
        assert_refused(&world, &[args, &[&image, "true"]].concat(), reason);
    }
}

as_root_and_user!(accel_kvm_never_falls_back_to_emulation, |world| {
    let image = world.busybox();
    let with_kvm = world.mimeo(["run", "--accel", "kvm", "--rm", &image, "true"]);
    // Without `--accel` KVM may be tried, and preflight shows the result.
    world.mimeo(["run", "--rm", &image, "true"]).code(0);
    let checks = world.mimeo(["setup", "preflight", "--json"]).json();
    let acceleration = checks.as_array().into_iter().flatten().find(|check| check["name"] == "acceleration");
    let detail = acceleration.and_then(|check| check["detail"].as_str()).unwrap_or_default();
    if detail.starts_with("KVM") {
        with_kvm.code(0);
        return;
    }
    // The VMM's failure is the machine's failure.
    with_kvm.code(125).stderr_contains("the virtual machine ended while it booted");
    let again = world.mimeo(["run", "--accel", "kvm", "--rm", &image, "true"]).code(125);
    again.stderr_contains("using KVM as requested, though it is not known to work");
    world.assert_empty();
});

#[test]
fn a_name_in_use_is_refused() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let id = world.start(["--name", "web", &image, "true"]);
    let owner = format!("the name \"web\" is in use by machine {}", &id[..12]);
    world.mimeo(["run", "--name", "web", &image, "true"]).code(125).stderr_contains(&owner);
    world.mimeo(["run", "-d", "--name", "web", &image, "true"]).code(125).stderr_contains(&owner);
    world.mimeo(["ps", "-aq"]).ok().printed(&format!("{}\n", &id[..12]));
}

#[test]
fn little_memory_boots_or_names_the_reason() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let outcome = world.mimeo(["run", "--rm", "-m", "96m", "--start-timeout", "40", &image, "echo", "small"]);
    if outcome.code == 0 {
        outcome.printed("small\n");
    } else {
        outcome
            .code(125)
            .stderr_contains("the guest did not come up")
            .stderr_contains("the console's last lines");
    }
    world.assert_empty();
}

#[test]
fn a_full_disk_is_reported() {
    let world = World::on_disk_of(120 << 20);
    let noise: Vec<u8> =
        (0..15_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let image = world.image(&Image::busybox("big").layer(Layer::default().file("noise", 0o644, noise)));
    assert_image_refused(&world, &image, "No space left on device");
    // A machine that fills the host's disk is reported, and waits for space.
    let small = world.busybox();
    let shell = "echo runs; dd if=/dev/urandom of=/file bs=1M count=80 conv=fsync 2>/dev/null || echo full";
    let waiting = world.spawn(["run", "--rm", "--name", "fills", &small, "sh", "-c", shell]);
    until("the machine waits for space", || {
        world.mimeo(["ps"]).stdout.contains("Paused (its disk cannot be written").then_some(())
    });
    world.mimeo(["rm", "-f", "fills"]).code(0);
    let outcome = Outcome::wait_for(waiting).code(137).printed("runs\n");
    assert!(outcome.stderr.contains("No space left"), "{outcome:#?}");
    world.assert_empty();
    // The disk is completely full.
    let filler = world.home().join("filler");
    fs::write(&filler, vec![1; 120 << 20]).expect_err("more than the disk holds");
    assert_refused(&world, &[&small, "true"], "No space left");
    fs::remove_file(filler).expect("removed");
    world.mimeo(["run", "--rm", &small, "echo", "space"]).ok().printed("space\n");
}

#[test]
fn missing_qemu_firmware_is_reported() {
    const WITHOUT_FIRMWARE: &str = r#"for word; do shift; [ "$word" = qboot.rom ] && word=missing.rom; set -- "$@" "$word"; done
exec "$QEMU" "$@""#;
    let world = World::cold(User::Root);
    let image = world.busybox();
    let mut command = world.command(["run", "--rm", &image, "true"]);
    command.env("PATH", world.path_with_qemu(WITHOUT_FIRMWARE));
    let outcome = world.finish(command).code(125);
    outcome.stderr_contains("cannot load the firmware qboot.rom").stderr_contains("mimeo setup preflight");
    world.assert_empty();
}

#[test]
fn missing_host_software_is_reported() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.mimeo(["pull", "-q", &image]).code(0);
    let mut command = world.command(["run", "--rm", &image, "true"]);
    command.env("PATH", "/nowhere");
    world.finish(command).code(125).stderr_contains("qemu-system-x86_64 is not installed");
    world.assert_empty();
    let manifest = world.home().join("kernels/default/kernel.json");
    // Other worlds share the file, so it is replaced rather than modified.
    fs::remove_file(&manifest).expect("removed");
    fs::write(&manifest, "{\"format\": 1, \"na").expect("written");
    assert_refused(&world, &[&image, "true"], "kernel.json is not a kernel manifest").stderr_contains("EOF");
    fs::write(&manifest, "{\"format\": 999}").expect("written");
    assert_refused(&world, &[&image, "true"], "has format 999");
    let bare = World::bare(User::Root);
    assert_refused(&bare, &["busybox", "true"], "no kernel is set up in").stderr_contains("run `mimeo setup");
}

#[test]
fn unusable_directories_are_refused() {
    let world = World::bare(User::Ordinary);
    let with = |variable: &str, value: &str| {
        let mut command = world.command(["ps"]);
        command.env(variable, value);
        world.finish(command).code(125)
    };
    with("MIMEO_RUN", &format!("/tmp/{}", "long/".repeat(20)))
        .stderr_contains("MIMEO_RUN is too long a path for sockets");
    with("MIMEO_HOME", "relative").stderr_contains("MIMEO_HOME must be an absolute path, not relative");
    with("MIMEO_HOME", "/proc/no").stderr_contains("cannot make /proc/no");
    with("MIMEO_HOME", "/etc").stderr_contains("cannot make /etc: it belongs to another user");
    let locked = world.files().join("locked");
    fs::create_dir(&locked).expect("made");
    world.chown(&locked);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("changed");
    with("MIMEO_HOME", &locked.to_string_lossy()).stderr_contains("Permission denied");
}

#[test]
fn a_wrong_command_line_is_125_with_a_hint() {
    let world = World::bare(User::Root);
    let help = world.mimeo(["--help"]).ok().stdout;
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = list.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 10, "{help}");
    for command in commands.iter().filter(|command| **command != "help") {
        world.mimeo([*command, "--no-such-option"]).code(125).stderr_contains("--help").printed("");
        let help = world.mimeo([*command, "--help"]).ok();
        assert!(help.stdout.contains("Usage: mimeo"), "{help:#?}");
    }
    world.mimeo(["nonsense"]).code(125).stderr_contains("nonsense").stderr_contains("--help");
    world.mimeo([""; 0]).code(125).stderr_contains("Usage: mimeo");
    for incomplete in
        [&["run"][..], &["exec"], &["exec", "web"], &["logs"], &["stop"], &["rm"], &["cp", "x"], &["pull"]]
    {
        let outcome = world.mimeo(incomplete).code(125);
        assert!(!outcome.stderr.is_empty(), "{outcome:#?}");
    }
}

#[test]
fn control_characters_in_errors_are_escaped() {
    let world = World::new(User::Root);
    let image = Image::busybox("painter").config("Cmd", serde_json::json!(["\u{1b}[2Jx\u{7}"]));
    let outcome = world.mimeo(["run", "--rm", &world.image(&image)]).code(127);
    assert!(!outcome.stderr.contains(['\u{1b}', '\u{7}']), "{outcome:#?}");
}

as_root_and_user!(output_is_passed_through_unchanged, |world| {
    let image = world.busybox();
    let shell = "printf '\\033[2J\\000\\377\\r\\n'; head -c 1000000 /dev/zero | tr '\\000' x; printf '\\033]0;x\\007' >&2";
    let mut expected = b"\x1b[2J\0\xff\r\n".to_vec();
    expected.resize(expected.len() + 1_000_000, b'x');
    let run = world.command(["run", "--name", "loud", &image, "sh", "-c", shell]).output().expect("runs");
    assert!(run.stdout == expected && run.stderr == b"\x1b]0;x\x07", "{} bytes", run.stdout.len());
    let logs = world.command(["logs", "loud"]).output().expect("runs");
    assert!(logs.stdout == expected && logs.stderr == b"\x1b]0;x\x07", "{} bytes", logs.stdout.len());
});

as_root_and_user!(ctrl_c_ends_a_stalled_pull, |world| {
    let registry = Registry::start();
    drop(world.busybox());
    let name = registry.push(&world.files().join("busybox"), "slow");
    let size = fs::metadata(registry.largest_blob()).expect("a blob").len();
    for (bytes, args) in [(0, &["pull"][..]), (size / 2, &["run", "--rm"])] {
        let proxy = StallingProxy::new(&registry.address, bytes);
        let image = name.replace(&registry.address, &proxy.address);
        let child = world.spawn(args.iter().chain(&[image.as_str()]));
        until("the registry is contacted", || proxy.was_contacted().then_some(()));
        signal(&child, Signal::INT);
        let outcome = Outcome::wait_for(child);
        assert!(outcome.code == 130, "{outcome:#?}");
        world.assert_empty();
        world.mimeo(["images", "-q"]).ok().printed("");
    }
});
