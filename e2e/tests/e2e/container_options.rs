//! What a container may do and use: users and groups, capabilities, limits, filesystems, kernel settings.

use e2e::{Image, Layer, User, World, as_root_and_user, guest_program, until};
use serde_json::json;

/// A line of /proc/self/status with its name and its value, separated by a space.
const STATUS: &str =
    "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status | tr -s '\\t ' '  ' | sed 's/ *$//'";
/// podman's default capabilities.
const DEFAULT: &str = "00000000800405fb";
const NONE: &str = "0000000000000000";
const ALL: &str = "000001ffffffffff";

/// The output of a shell command line in a new machine with these options.
#[track_caller]
fn run(world: &World, options: &[&str], line: &str) -> String {
    let image = world.busybox();
    world.mimeo([&["run", "--rm"], options, &[&image, "sh", "-c", line]].concat()).ok().stdout
}

/// The five capability sets in `STATUS`: inheritable, permitted, effective, bounding, ambient.
fn capabilities(status: &str) -> Vec<&str> {
    status.lines().filter_map(|line| line.strip_prefix("Cap")?.split(' ').nth(1)).collect()
}

as_root_and_user!(a_process_has_podmans_groups, |world| {
    let groups =
        |options: &[&str]| run(world, options, "sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status");
    for (options, expected) in [
        (&["-u", "1000:1000"][..], "1000"),
        (&["-u", "app"], "1000 2000"),
        (&["-u", "app:extra"], "2000"),
        (&["-u", "5000"], "0"),
        (&["-u", "app", "--group-add", "7", "--group-add", "root"], "0 7 1000 2000"),
        (&["--group-add", "extra"], "0 2000"),
    ] {
        assert_eq!(groups(options).trim(), expected, "{options:?}");
    }
    let image = world.busybox();
    let unknown = world.mimeo(["run", "--rm", "--group-add", "nonesuch", &image, "true"]).code(126);
    unknown.stderr_contains("unable to find group nonesuch");
});

#[test]
fn capabilities_are_podmans() {
    let world = World::new(User::Root);
    let sets = |options: &[&str]| run(&world, options, STATUS);
    let net_admin = "0000000000001000";
    for (options, expected) in [
        (&[][..], [NONE, DEFAULT, DEFAULT, DEFAULT, NONE]),
        (&["-u", "app"], [NONE, NONE, NONE, DEFAULT, NONE]),
        (&["--cap-drop", "ALL"], [NONE; 5]),
        (&["--cap-drop", "all", "--cap-add", "net_admin", "-u", "app"], [net_admin; 5]),
        (&["--cap-add", "all"], [NONE, ALL, ALL, ALL, NONE]),
        (&["--privileged"], [NONE, ALL, ALL, ALL, NONE]),
        (&["--privileged", "-u", "app"], [NONE, NONE, NONE, ALL, NONE]),
        (&["--init", "--cap-drop", "all"], [NONE; 5]),
    ] {
        assert_eq!(capabilities(&sets(options)), expected, "{options:?}");
    }
    assert!(sets(&["--security-opt", "no-new-privileges"]).contains("NoNewPrivs: 1"));
    assert!(sets(&["--security-opt", "seccomp=unconfined"]).contains("NoNewPrivs: 0"));
    // The init has the privileges of its program, and neither is killed by a signal that the other handles.
    let init = run(&world, &["--init", "-u", "app"], "grep -E '^(CapEff|Uid)' /proc/1/status");
    assert!(init.contains("1000\t1000\t1000\t1000") && init.contains(NONE), "{init}");
}

as_root_and_user!(root_in_a_container_cannot_lift_its_limits, |world| {
    let line = "mount -t tmpfs x /tmp; mount -o remount,rw /proc/sys; echo max > /sys/fs/cgroup/pids.max
                echo x > /proc/sys/kernel/core_pattern; ulimit -Hn 2000; wc -c < /proc/kcore; cat /sys/fs/cgroup/pids.max";
    let image = world.busybox();
    let options = ["run", "--rm", "--pids-limit", "20", "--ulimit", "nofile=100:1000"];
    let outcome = world.mimeo([&options[..], &[&image, "sh", "-c", line]].concat());
    assert_eq!(outcome.stdout, "0\n20\n", "{outcome:#?}");
    for part in ["mount: ", "Read-only file system", "core_pattern", "Operation not permitted"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:#?}");
    }
});

#[test]
fn a_writable_mount_of_the_cgroups_lifts_no_limit() {
    let world = World::new(User::Root);
    let lift = Layer::default().file("lift", 0o755, guest_program("cgroup_limits"));
    let image = world.image(&Image::busybox("cgroups").layer(lift));
    let line = "/lift; cat /sys/fs/cgroup/pids.max; for i in 1 2 3 4 5 6; do sleep 9 & done; echo too many";
    let outcome = world.mimeo(["run", "--rm", "--pids-limit", "5", &image, "sh", "-c", line]);
    assert_eq!(outcome.stdout, "lifted\nmax\n", "{outcome:#?}");
    assert!(outcome.stderr.contains("can't fork"), "{outcome:#?}");
}

#[test]
fn a_working_directory_is_never_one_of_the_agents() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", "-w", "/work", &image, "sleep", "1000"]);
    for descriptor in 3..40 {
        let directory = format!("/proc/self/fd/{descriptor}");
        world.mimeo(["run", "--rm", "-w", &directory, &image, "ls"]).code(126).stderr_contains("chdir to");
        world.mimeo(["exec", "-w", &directory, "web", "ls"]).code(126).stderr_contains("chdir to");
        // The workload replaces its working directory by a link.
        let line = format!("rm -rf /work && ln -s {directory} /work");
        world.mimeo(["exec", "-w", "/", "web", "sh", "-c", &line]).ok();
        world.mimeo(["exec", "-w", "/work", "web", "ls"]).code(126).stderr_contains("chdir to");
        let program = format!("{directory}/../bin/ls");
        world.mimeo(["exec", "-w", "/", "web", &program]).code(127).stderr_contains("not found");
    }
}

#[test]
fn the_init_cannot_be_traced() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let line = "cat /proc/1/maps; ls /proc/1/cwd/";
    let outcome = world.mimeo(["run", "--rm", "--init", &image, "sh", "-c", line]).code(1);
    assert_eq!(outcome.stderr.matches("Permission denied").count(), 2, "{outcome:#?}");
    // A program is not restricted.
    run(&world, &["--init"], "cat /proc/$$/maps && ls /proc/$$/cwd/");
}

as_root_and_user!(a_privileged_container_has_the_whole_guest, |world| {
    let line = "mount -t tmpfs x /tmp && mkdir /sys/fs/cgroup/sub && echo 5 > /proc/sys/vm/swappiness
                cat /proc/sys/vm/swappiness; test -c /dev/fuse -a -b /dev/vda && echo devices; mount | grep -c '^sysfs.*(rw'";
    assert_eq!(run(world, &["--privileged"], line), "5\ndevices\n1\n");
});

as_root_and_user!(limits_are_enforced, |world| {
    let options =
        ["--ulimit", "nofile=100:200", "--ulimit", "nproc=50", "--ulimit", "core=-1", "--umask", "077"];
    let line = "ulimit -n; ulimit -Hn; ulimit -c; grep 'Max processes' /proc/self/limits | tr -s ' '; umask; cat /proc/self/oom_score_adj";
    let options = [&options[..], &["--oom-score-adj", "-300", "-u", "app"]].concat();
    assert_eq!(
        run(world, &options, line),
        "100\n200\nunlimited\nMax processes 50 50 processes \n0077\n-300\n"
    );
    let image = world.busybox();
    let forks = "for i in 1 2 3 4 5 6; do sleep 9 & done; echo too many";
    let outcome = world.mimeo(["run", "--rm", "--pids-limit", "5", &image, "sh", "-c", forks]);
    assert!(outcome.stderr.contains("can't fork") && outcome.stdout.is_empty(), "{outcome:#?}");
    let refused = world.mimeo(["run", "--rm", "--ulimit", "nofile=99999999999", &image, "true"]).code(125);
    refused.stderr_contains("cannot set the resource limits");
});

#[test]
fn a_fraction_of_a_cpu_limits_the_containers_cpu_time() {
    let world = World::new(User::Root);
    let line = "cat /sys/fs/cgroup/cpu.max; nproc";
    assert_eq!(run(&world, &["--cpus", "1.5"], line), "150000 100000\n2\n");
    assert_eq!(run(&world, &["--cpus", "1.0"], line), "max 100000\n1\n");
    let image = world.busybox();
    world.start(["--name", "half", "--cpus", "0.5", &image, "sh", "-c", "while :; do :; done"]);
    // The kernel counts the periods in which it has stopped the container.
    let throttled = "sed -n 's/nr_throttled //p' /sys/fs/cgroup/cpu.stat";
    until("the container is throttled", || {
        (world.sh("half", throttled).parse::<u64>().expect("a number") > 1).then_some(())
    });
    let host = &world.inspect("half")["HostConfig"];
    assert_eq!(
        [&host["Cpus"], &host["NanoCpus"], &host["CpuQuota"], &host["CpuPeriod"]],
        [&json!(1), &json!(500_000_000), &json!(50_000), &json!(100_000)]
    );
}

as_root_and_user!(filesystems_are_podmans, |world| {
    let line = "touch /x; touch /etc/hosts; touch /tmp/a /run/b /var/tmp/c && ls -d /tmp/a; stat -c %a /tmp";
    let image = world.busybox();
    let outcome = world.mimeo(["run", "--rm", "--read-only", &image, "sh", "-c", line]);
    assert_eq!(outcome.stdout, "/tmp/a\n1777\n", "{outcome:#?}");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{outcome:#?}");
    let outcome =
        world.mimeo(["run", "--rm", "--read-only", "--read-only-tmpfs=false", &image, "touch", "/tmp/a"]);
    outcome.code(1).stderr_contains("Read-only file system");

    let options = [
        "--tmpfs",
        "/etc",
        "--tmpfs",
        "/x:size=1m,mode=700,noexec",
        "--tmpfs",
        "/home/app:ro",
        "--shm-size",
        "2m",
    ];
    let line = "cat /etc/group | head -1; grep -c localhost /etc/hosts; stat -c '%a %U' /x /home/app
                df -k /x /dev/shm | awk 'NR > 1 { print $2 }'; touch /home/app/y 2>&1; mount | grep -c ' /x .*nosuid,nodev,noexec'";
    let options = [&options[..], &["-w", "/x"]].concat();
    let expected =
        "root:x:0:\n2\n700 root\n755 root\n1024\n2048\ntouch: /home/app/y: Read-only file system\n1\n";
    assert_eq!(run(world, &options, line), expected);
});

#[test]
fn a_device_of_an_image_is_only_for_privileged_containers() {
    let world = World::new(User::Root);
    let image = world.image(&Image::busybox("device").layer(Layer::default().device("null", 1, 3)));
    for options in [&[][..], &["-u", "app"], &["--read-only"], &["--cap-add", "mknod"]] {
        let run = [&["run", "--rm"], options, &[&image, "cat", "/null"]].concat();
        world.mimeo(run).code(1).stderr_contains("Permission denied");
    }
    for options in [&["--privileged"][..], &["--privileged", "--read-only"]] {
        world.mimeo([&["run", "--rm"], options, &[&image, "cat", "/null"]].concat()).ok();
    }
    let line = "echo x > /dev/null && head -c 1 /dev/zero | wc -c";
    world.mimeo(["run", "--rm", &image, "sh", "-c", line]).ok().printed("1\n");
}

#[test]
fn the_files_that_mimeo_manages_are_read_only_with_the_root() {
    let world = World::new(User::Root);
    let dbus = Layer::default().dir("var/lib/dbus", 0o755).file("var/lib/dbus/machine-id", 0o644, "x\n");
    let image = world.image(&Image::busybox("dbus").layer(dbus));
    let line = "for f in /etc/hostname /etc/hosts /etc/resolv.conf /etc/machine-id /etc/localtime /var/lib/dbus/machine-id
                do echo x >> $f; done; grep -qf /etc/machine-id /var/lib/dbus/machine-id && date +%Z";
    let options = ["run", "--rm", "--read-only", "--tz", "Asia/Tokyo"];
    let outcome = world.mimeo([&options[..], &[&image, "sh", "-c", line]].concat()).code(0);
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 6, "{outcome:#?}");
    assert_eq!(outcome.stdout, "JST\n", "{outcome:#?}");
}

#[test]
fn declared_volumes_exist() {
    let world = World::new(User::Root);
    let image = Image::busybox("declared")
        .config("Volumes", json!({ "/var/lib/thing": {}, "relative": {}, "/run/thing": {} }));
    let image = world.image(&image);
    let line = "echo x > /var/lib/thing/f && cat /var/lib/thing/f; ls -d /relative";
    world.mimeo(["run", "--rm", &image, "sh", "-c", line]).ok().printed("x\n/relative\n");
    let line = "touch /run/thing/f && ls /run/thing";
    world.mimeo(["run", "--rm", "--read-only", &image, "sh", "-c", line]).ok().printed("f\n");
    // As podman's anonymous volumes, they are writable below a read-only root, and no part of the container's changes.
    let line = "touch /var/lib/thing/f /relative/f && ls /var/lib/thing";
    world.mimeo(["run", "--rm", "--read-only", &image, "sh", "-c", line]).ok().printed("f\n");
    let options = ["run", "--name", "job", "--tmpfs", "/relative"];
    world
        .mimeo([&options[..], &[&image, "sh", "-c", "touch /var/lib/thing/f /relative/f /other"]].concat())
        .ok();
    let changes = world.mimeo(["diff", "job"]).ok().stdout;
    assert!(changes.contains("A /other\n"), "{changes}");
    assert!(!changes.contains("/var/lib/thing/f") && !changes.contains("/relative/f"), "{changes}");
    // As with podman, a volume cannot be mounted on a file.
    let image = world.image(&Image::busybox("file").config("Volumes", json!({ "/etc/passwd": {} })));
    let refused = world.mimeo(["run", "--rm", &image, "true"]).code(125);
    refused.stderr_contains("cannot mount the volume at /etc/passwd");
    let ignored = ["run", "--rm", "--image-volume", "ignore", &image, "head", "-c", "4", "/etc/passwd"];
    world.mimeo(ignored).ok().printed("root");
}

as_root_and_user!(kernel_settings_and_the_time_zone_are_set, |world| {
    let settings = ["net.ipv4.ip_forward=1", "kernel.shmmax=1234567", "vm.swappiness=5"];
    let options: Vec<&str> =
        settings.iter().flat_map(|setting| ["--sysctl", setting]).chain(["--tz", "Asia/Tokyo"]).collect();
    let line = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/vm/swappiness; date +%Z";
    assert_eq!(run(world, &options, line), "1\n1234567\n5\nJST\n");
    let image = world.busybox();
    for (setting, reason) in [
        ("vm.nonesuch=1", "the guest's kernel has no setting vm.nonesuch"),
        ("vm.swappiness=x", "cannot set vm.swappiness to \"x\": Invalid argument"),
        ("kernel.shmmax=x", "cannot set kernel.shmmax: Invalid argument"),
    ] {
        world.mimeo(["run", "--rm", "--sysctl", setting, &image, "true"]).code(125).stderr_contains(reason);
    }
    world.assert_empty();
    // Every group may open ICMP sockets, since no container has CAP_NET_RAW by default.
    let line = "cat /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(run(world, &[], line), "0\t2147483647\n");
});

as_root_and_user!(an_executed_process_has_the_containers_privileges, |world| {
    let image = world.busybox();
    let options =
        ["--cap-add", "net_admin", "--cap-drop", "chown", "--group-add", "7", "--ulimit", "nofile=100"];
    let options =
        [&options[..], &["--umask", "077", "--pids-limit", "90", "--security-opt", "no-new-privileges"]]
            .concat();
    world.start([&["--name", "web", "-u", "app"], &options[..], &[&image, "sleep", "1000"]].concat());
    assert_privileges(world, "web");
    world.snapshot("web", "saved");
    world.clones(&["saved", "--name", "clone"]);
    assert_privileges(world, "clone");
    world.mimeo(["fork", "clone", "--name", "fork"]).ok();
    assert_privileges(world, "fork");
    world
        .mimeo(["exec", "-w", "relative", "web", "true"])
        .code(125)
        .stderr_contains("is not an absolute path");
    world.mimeo(["rm", "-f", "-a"]).ok();
    world.mimeo(["snapshot", "prune"]).code(0);
});

/// Asserts what processes of the machine may do.
#[track_caller]
fn assert_privileges(world: &World, machine: &str) {
    let status = |options: &[&str]| {
        let line = format!("{STATUS}; ulimit -n; umask; cat /sys/fs/cgroup/pids.max");
        world.mimeo([&["exec"], options, &[machine, "sh", "-c", &line]].concat()).ok().stdout
    };
    let (net_admin, bounding) = ("0000000000001000", "00000000800415fa");
    let own = status(&[]);
    assert_eq!(capabilities(&own), [net_admin, net_admin, net_admin, bounding, net_admin], "{own}");
    for part in ["Groups: 7 1000 2000\n", "NoNewPrivs: 1\n", "\n100\n0077\n90\n"] {
        assert!(own.contains(part), "{part}: {own}");
    }
    // Another user has none of what was given to the container's user.
    let other = status(&["-u", "1000:1000"]);
    assert_eq!(capabilities(&other), [NONE, NONE, NONE, bounding, NONE], "{other}");
    assert!(other.contains("Groups: 1000\n"), "{other}");
    let root = status(&["-u", "0"]);
    assert_eq!(capabilities(&root), [NONE, bounding, bounding, bounding, NONE], "{root}");
    let privileged = status(&["-u", "0", "--privileged"]);
    assert_eq!(capabilities(&privileged), [NONE, ALL, ALL, ALL, NONE], "{privileged}");
}

#[test]
fn inspect_shows_the_options_where_podman_does() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let options = ["--cap-add", "net_admin", "--cap-drop", "chown", "--security-opt", "no-new-privileges"];
    let limits = ["--ulimit", "core=100:-1", "--pids-limit", "9", "--oom-score-adj", "5", "--umask", "027"];
    let files =
        ["--tmpfs", "/x:size=1m", "--shm-size", "1m", "--sysctl", "vm.swappiness=5", "--tz", "Etc/UTC"];
    let user = ["-u", "app", "--group-add", "7", "--memory-swap", "-1", "--name", "web"];
    world.start([&options[..], &limits, &files, &user, &[&image, "sleep", "1000"]].concat());
    let document = world.inspect("web");
    assert_eq!(document["EffectiveCaps"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(document["BoundingCaps"].as_array().map(Vec::len), Some(11));
    let host = &document["HostConfig"];
    for (field, value) in [
        ("CapAdd", json!(["CAP_NET_ADMIN"])),
        ("CapDrop", json!(["CAP_CHOWN"])),
        ("Privileged", json!(false)),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("GroupAdd", json!(["7"])),
        ("Ulimits", json!([{ "Name": "RLIMIT_CORE", "Soft": 100, "Hard": -1 }])),
        ("PidsLimit", json!(9)),
        ("MemorySwap", json!(-1)),
        ("Sysctls", json!({ "vm.swappiness": "5" })),
        ("ReadonlyRootfs", json!(false)),
        ("Tmpfs", json!({ "/x": "rw,nosuid,nodev,exec,tmpcopyup,size=1m" })),
        ("ShmSize", json!(1 << 20)),
        ("OomScoreAdj", json!(5)),
        ("NanoCpus", json!(0)),
    ] {
        assert_eq!(host[field], value, "{field}");
    }
    assert_eq!(document["Config"]["Umask"], "0027");
    assert_eq!(document["Config"]["Timezone"], "Etc/UTC");
}

as_root_and_user!(options_survive_a_restart, |world| {
    let image = world.busybox();
    let options = [
        "--cap-drop",
        "all",
        "--read-only",
        "--tmpfs",
        "/x:size=1m",
        "--sysctl",
        "vm.swappiness=5",
        "--cpus",
        "0.5",
    ];
    let line = "cat /proc/sys/vm/swappiness /sys/fs/cgroup/cpu.max; touch /x/a; ls /x; grep CapBnd /proc/self/status; touch /y";
    world.start([&["--name", "web"], &options[..], &[&image, "sh", "-c", line]].concat());
    let expected = format!("5\n50000 100000\na\nCapBnd:\t{NONE}\n");
    for _ in 0..2 {
        world.mimeo(["wait", "web"]).ok().printed("1\n");
        let logs = world.mimeo(["logs", "--tail", "6", "web"]);
        assert!(logs.stdout.ends_with(&expected) && logs.stderr.contains("Read-only"), "{logs:#?}");
        world.mimeo(["start", "web"]).ok();
    }
    world.mimeo(["wait", "web"]).ok();
    world.mimeo(["update", "--cpus", "1.5", "web"]).code(0);
    let host = &world.inspect("web")["HostConfig"];
    assert_eq!((&host["Cpus"], &host["NanoCpus"]), (&json!(2), &json!(1_500_000_000)));
});
