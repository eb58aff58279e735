//! Each clone has its own identity before its workload resumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Image, Layer, User, World, until};
use serde_json::Value;

/// Number of clones of one machine.
const CLONES: usize = 50;
/// The maximum difference between a clone's clock and the host's.
const MAX_CLOCK_SKEW: Duration = Duration::from_millis(100);

/// A workload that reads random values as soon as its VM generation changes; they
/// must differ between all clones.
const RECORD_ON_CLONE: &str = r#"
old=$(cat /run/mimeo/generation)
echo ready
while [ "$(cat /run/mimeo/generation)" = "$old" ]; do :; done
{
    echo random $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    echo uuid $(cat /proc/sys/kernel/random/uuid)
} > /recorded.new
mv /recorded.new /recorded
exec sleep 1000
"#;
/// Prints everything that must differ between clones.
const OBSERVE: &str = r#"
cat /recorded
echo generation $(cat /run/mimeo/generation)
echo machine-id $(cat /etc/machine-id)
echo boot-id $(cat /proc/sys/kernel/random/boot_id)
echo host $(hostname)
echo mac $(cat /sys/class/net/eth0/address)
echo ip $(ip -4 addr show eth0 | grep -o 'inet [0-9.]*')
echo random-later $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
"#;

/// The named values that a command line prints in a machine.
fn observe(world: &World, machine: &str, line: &str) -> BTreeMap<String, String> {
    let text = world.sh(machine, line);
    let words = text.lines().map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{machine}: {text}")));
    words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Asserts that all values of each name differ.
#[track_caller]
fn assert_distinct(seen: &[BTreeMap<String, String>]) {
    for name in seen[0].keys() {
        let values: BTreeSet<_> = seen.iter().map(|one| &one[name]).collect();
        assert_eq!(values.len(), seen.len(), "{name}: {values:#?}");
        assert!(values.iter().all(|value| !value.is_empty()), "{name}");
    }
}

/// Starts a machine `web` and saves it as `saved`.
fn start_and_save(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sh", "-c", RECORD_ON_CLONE]);
    until("the workload is ready", || (world.mimeo(["logs", "web"]).stdout == "ready\n").then_some(()));
    world.snapshot("web", "saved");
}

fn host_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A lower bound of the difference between the machine's clock and the host's: the
/// best of three measurements, each as precise as its round trip is short.
fn clock_skew(world: &World, machine: &str) -> Duration {
    let one = || {
        let before = host_time();
        let printed = world.sh(machine, "adjtimex");
        let after = host_time();
        let number = |name: &str| {
            let value =
                printed.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse::<u64>().ok());
            value.unwrap_or_else(|| panic!("no {name} in {printed}"))
        };
        let guest =
            Duration::from_secs(number("time.tv_sec:")) + Duration::from_micros(number("time.tv_usec:"));
        before.saturating_sub(guest).max(guest.saturating_sub(after))
    };
    (0..3).map(|_| one()).min().expect("some")
}

#[test]
fn fifty_clones_have_distinct_identities() {
    let world = World::new(User::Root);
    start_and_save(&world);
    let count = CLONES.to_string();
    let clones = world.clones(&["saved", "-n", &count, "--name", "clone"]);
    assert_eq!(clones.len(), CLONES);
    let names: Vec<_> = clones.iter().map(|clone| clone["name"].as_str().expect("a name")).collect();
    let mut seen = Vec::new();
    for (name, clone) in names.iter().zip(&clones) {
        until("the workload has recorded its values", || {
            (!world.sh(name, "ls /recorded 2>&-; true").is_empty()).then_some(())
        });
        let one = observe(&world, name, OBSERVE);
        // `snapshot run` and the guest report the same.
        assert_eq!(clone["vm_generation"], *one["generation"]);
        assert_eq!(clone["id"].as_str().expect("an id")[..12], *one["host"]);
        let machine = world.inspect(name);
        let network = &machine["NetworkSettings"];
        assert_eq!(network["MacAddress"], *one["mac"], "{name}");
        assert_eq!(format!("inet {}", network["IPAddress"].as_str().expect("text")), one["ip"]);
        assert_identity_steps(&machine);
        seen.push(one);
    }
    // Compare with the source too, which recorded no random values.
    let mut line = String::from("echo random 0; echo uuid 0\n");
    line.push_str(OBSERVE.trim_start().trim_start_matches("cat /recorded"));
    seen.push(observe(&world, "web", &line));
    assert_distinct(&seen);
    assert_eq!(world.sh("web", "ls /recorded 2>&-; true"), "");
    world.assert_removes_all();
}

#[test]
fn fifty_clones_have_the_hosts_clock() {
    let world = World::new(User::Root);
    start_and_save(&world);
    let clones = world.clones(&["saved", "-n", &CLONES.to_string(), "--name", "clone"]);
    for clone in clones {
        let name = clone["name"].as_str().expect("a name");
        let off = clock_skew(&world, name);
        assert!(off <= MAX_CLOCK_SKEW, "{name} is {off:?} off");
    }
    world.assert_removes_all();
}

#[test]
fn pauses_and_snapshots_keep_the_clock() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "box", "-m", "128m", &image, "sleep", "1000"]);
    let assert_clock = |event: &str| {
        let off = clock_skew(&world, "box");
        assert!(off <= Duration::from_secs(1), "{off:?} off after {event}");
    };
    assert_clock("its start");
    world.mimeo(["pause", "box"]).ok();
    // Whether the guest's clock stops during a pause depends on the driver.
    std::thread::sleep(Duration::from_secs(4));
    world.mimeo(["unpause", "box"]).ok();
    assert_clock("a pause");
    for tag in ["one", "two", "three"] {
        world.snapshot("box", tag);
    }
    assert_clock("three snapshots");
    world.assert_removes_all();
}

/// Asserts that all identity steps are reported and succeeded.
#[track_caller]
fn assert_identity_steps(machine: &Value) {
    let steps = machine["Identity"].as_array().expect("a list");
    let names: Vec<_> = steps.iter().map(|step| step["Step"].as_str().expect("a name")).collect();
    let all = [
        "entropy",
        "generation",
        "clock",
        "names",
        "network",
        "connections",
        "ssh_keys",
        "environment",
        "hooks",
        "thaw",
    ];
    assert_eq!(names, all, "{machine:#}");
    let succeeded = |step: &Value| step["Outcome"] == "done" || step["Outcome"] == "not_needed";
    assert!(steps.iter().all(succeeded), "{steps:#?}");
}

#[test]
fn pool_clones_have_distinct_identities() {
    let world = World::new(User::Root);
    start_and_save(&world);
    let server = world.serve(&["saved", "--pool", "4"]);
    until("the pool is full", || world.server_status(&server.id).filter(|serve| serve["ready"] == 4));
    let clones = world.clones(&["--pid", &server.pid, "-n", "6", "--name", "clone"]);
    let seen: Vec<_> = clones
        .iter()
        .map(|clone| {
            let name = clone["name"].as_str().expect("a name");
            until("the workload has recorded its values", || {
                (!world.sh(name, "ls /recorded 2>&-; true").is_empty()).then_some(())
            });
            let one = observe(&world, name, OBSERVE);
            assert_eq!(clone["vm_generation"], *one["generation"], "{name}");
            assert_identity_steps(&world.inspect(name));
            let off = clock_skew(&world, name);
            assert!(off <= MAX_CLOCK_SKEW, "{name} is {off:?} off");
            one
        })
        .collect();
    assert_distinct(&seen);
    server.end(rustix::process::Signal::TERM);
    world.assert_removes_all();
}

#[test]
fn a_clone_drops_connections_and_keeps_listeners() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let shell = "mkdir /www; echo page > /www/index.html; httpd -p 8000 -h /www; \
                 while :; do nc -ll -p 7 -e cat; done";
    world.start([
        "--name",
        "web",
        "-m",
        "128m",
        "-p",
        "127.0.0.1::7",
        "-p",
        "127.0.0.1::8000",
        &image,
        "sh",
        "-c",
        shell,
    ]);
    until("the page is served", || world.fetch_page(&world.published("web", "8000")));
    // The echo service starts after the web server; until then QEMU accepts connections that the guest resets.
    let listening = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ':0007 .* 0A '; true";
    until("the echo service listens", || (world.sh("web", listening) != "0").then_some(()));
    let poller = e2e::Poller::lines(&world.published("web", "7"));
    let established = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '; true";
    until("the connection is established", || (world.sh("web", established) != "0").then_some(()));
    world.snapshot("web", "saved");
    world.clones(&["saved", "--name", "clone"]);
    assert_eq!(world.sh("clone", established), "0");
    assert_eq!(world.fetch_page(&world.published("clone", "8000")).as_deref(), Some("page\n"));
    assert_ne!(world.sh("web", established), "0");
    assert!(poller.stop().len() > 5);
    world.assert_removes_all();
}

/// Adds a program of the host and its shared libraries to a layer, under the same paths.
fn with_libraries(layer: Layer, program: &str) -> Layer {
    let listed = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.chain([program]).fold(layer, |layer, path| {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        layer.file(path.trim_start_matches('/'), 0o755, bytes)
    })
}

#[test]
fn ssh_host_keys_are_regenerated() {
    const KEYGEN: &str = "/usr/bin/ssh-keygen";
    assert!(Path::new(KEYGEN).exists(), "{KEYGEN}: apt-get install openssh-client (see `make deps`)");
    let world = World::new(User::Root);
    let layer = with_libraries(Layer::default().dir("etc/ssh/", 0o755), KEYGEN);
    let image = world.image(&Image::busybox("ssh").layer(layer));
    world.start(["--name", "web", "-m", "128m", &image, "sleep", "1000"]);
    world.sh(
        "web",
        "ssh-keygen -q -N '' -t ed25519 -f /etc/ssh/ssh_host_ed25519_key; \
                     ssh-keygen -q -N '' -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key",
    );
    let keys = "cd /etc/ssh; for key in *_key; do echo $key $(md5sum < $key); ssh-keygen -y -f $key > /tmp/pub; \
                read kind half rest < $key.pub; grep -q \"$half\" /tmp/pub && echo $key.pub $half; done";
    let before = observe(&world, "web", keys);
    assert_eq!(before.len(), 4, "{before:#?}");
    world.snapshot("web", "saved");
    let mut seen = vec![before.clone()];
    for clone in world.clones(&["saved", "-n", "3", "--name", "clone"]) {
        let name = clone["name"].as_str().expect("a name");
        seen.push(observe(&world, name, keys));
        assert_identity_steps(&world.inspect(name));
    }
    assert_distinct(&seen);
    assert_eq!(observe(&world, "web", keys), before);
    world.assert_removes_all();
}
