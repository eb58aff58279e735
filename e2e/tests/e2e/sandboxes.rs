//! Sandboxes: machines with whole systems.

use std::process::Command;

use e2e::{Base, User, World};

/// A key that no one has the other half of.
const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6T3fGvG4tBb4t0m1m0mYtYtYtYtYtYtYtYtYtYtYtY agent@example";
/// What each machine has of its own.
const OWN: [&str; 5] = [
    "hostname",
    "cat /etc/machine-id",
    "cat /etc/ssh/ssh_host_ed25519_key.pub",
    "cat /var/lib/cloud/data/instance-id",
    "cat /proc/sys/kernel/random/uuid",
];

fn output(command: &mut Command) -> String {
    let output = command.output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn debians_disk_is_partitioned_as_its_cloud_image_and_has_no_identity() {
    let world = World::bare(User::Ordinary);
    let disk = Base::debian().link_into(&world);
    let table = output(Command::new("sfdisk").arg("--json").arg(&disk));
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    let partitions = table["partitiontable"]["partitions"].as_array().expect("a list");
    let root = partitions.iter().find(|it| it["node"].as_str().is_some_and(|name| name.ends_with("raw1")));
    let start = root.and_then(|it| it["start"].as_u64()).expect("partition 1") * 512;
    let device = format!("{}?offset={start}", disk.display());
    let content = |request: &str| output(Command::new("debugfs").args(["-R", request, &device]));
    assert!(content("stats").contains(Base::debian().root_uuid()));
    assert!(content("ls -p /usr/bin").contains("/cloud-init/"));
    assert!(!content("ls -p /etc/ssh").contains("ssh_host_"));
    assert_eq!(content("cat /etc/machine-id"), "");
}

/// One boot of a whole system takes most of a minute under emulation, so this is one test.
#[test]
fn a_whole_system_boots_is_used_cloned_and_powers_off() {
    let world = World::new(User::Ordinary);
    let disk = Base::debian().link_into(&world).display().to_string();
    world.mimeo(["base", "add", "debian", &*disk]).code(0);
    world.file("user-data", "#cloud-config\nwrite_files:\n- {path: /srv/note, content: from the user}\n");
    let args = ["sandbox", "create", "debian", "--name", "dev", "--agent-id", "seven"];
    world.mimeo(args.iter().chain(&["--disk", "5g", "--ssh-key", SSH_KEY, "--user-data", "user-data"])).ok();

    assert_eq!(world.sh("dev", "cat /proc/1/comm"), "systemd");
    assert_eq!(world.sh("dev", "systemctl is-system-running"), "running");
    assert_eq!(world.sh("dev", "systemd-detect-virt --container || true"), "none");
    let status = world.sh("dev", "cloud-init status --wait --long");
    assert!(status.contains("status: done") && status.contains("DataSourceNoCloud"), "{status}");
    assert_eq!(world.sh("dev", "hostname"), "dev");
    assert_eq!(world.sh("dev", "cat /srv/note"), "from the user");
    assert_eq!(world.sh("dev", "cat /home/debian/.ssh/authorized_keys"), SSH_KEY);
    let kib: u64 = world.sh("dev", "df --output=size / | tail -1").trim().parse().expect("a number");
    assert!(kib > 4 << 20, "the root filesystem fills the larger disk: {kib} KiB");
    assert!(world.mimeo(["top", "dev"]).ok().stdout.contains("systemd-journald"));
    assert!(world.mimeo(["diff", "dev"]).stderr.contains("a whole system has no image"));
    // The host's resolver is reached through the machine's own network.
    world.sh("dev", "resolvectl dns | grep -q '10\\.'");
    let users = world.mimeo(["base", "rm", "debian"]);
    assert!(users.code(2).stderr.contains("dev"));

    // What runs in the source runs on in its clone, which has names and keys of its own.
    world.sh("dev", "systemd-run --quiet --unit=counter sleep 100000");
    world.snapshot("dev", "booted");
    world.clones(&["booted", "--name", "copy"]);
    for command in OWN {
        assert_ne!(world.sh("dev", command), world.sh("copy", command), "{command}");
    }
    assert_eq!(world.sh("copy", "hostname; cat /etc/hostname"), "copy\ncopy");
    assert_eq!(world.sh("copy", "systemctl is-active counter ssh"), "active\nactive");

    world.mimeo(["kill", "copy"]).ok();
    world.mimeo(["wait", "copy"]).ok();
    assert_eq!(world.inspect("copy")["State"]["ExitCode"], 137);
    world.mimeo(["stop", "--time", "60", "dev"]).ok();
    assert_eq!(world.inspect("dev")["State"]["ExitCode"], 0, "it has powered off by itself");
    world.mimeo(["rm", "--force", "dev", "copy"]).ok();
    world.mimeo(["snapshot", "rm", "booted"]).ok();
    world.mimeo(["base", "rm", "debian"]).code(0);
    world.assert_removes_all();
}

#[test]
fn what_cannot_be_a_sandbox_is_refused() {
    let world = World::new(User::Ordinary);
    let refused = |args: &[&str], why: &str| {
        let outcome = world.mimeo([&["sandbox", "create"], args].concat());
        assert!(outcome.code != 0 && outcome.stderr.contains(why), "{args:?}: {outcome:?}");
    };
    refused(&["missing"], "no base has the name missing");
    refused(&["../etc"], "not a valid name of a base");
    refused(&["x", "--user-data", "absent"], "cannot read absent");
    refused(&["x", "--memory", "1q"], "--memory");
    world.mimeo(["ps", "-aq"]).code(0).printed("");
}
