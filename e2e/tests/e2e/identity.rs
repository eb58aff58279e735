//! Each copy is a machine of its own, before one instruction of its workload runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Image, Layer, User, World, until};
use serde_json::Value;

/// Copies of one machine.
const COPIES: usize = 50;
/// How far a copy's clock may be from the host's.
const CLOCK: Duration = Duration::from_millis(100);

/// In the first moment in which it finds itself a copy, the workload reads
/// what must be different from all others.
const NOTICE: &str = r#"
old=$(cat /run/mimeo/generation)
echo ready
while [ "$(cat /run/mimeo/generation)" = "$old" ]; do :; done
{
    echo random $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    echo uuid $(cat /proc/sys/kernel/random/uuid)
} > /noticed.new
mv /noticed.new /noticed
exec sleep 1000
"#;
/// What else must be.
const OBSERVE: &str = r#"
cat /noticed
echo generation $(cat /run/mimeo/generation)
echo machine-id $(cat /etc/machine-id)
echo boot-id $(cat /proc/sys/kernel/random/boot_id)
echo host $(hostname)
echo mac $(cat /sys/class/net/eth0/address)
echo ip $(ip -4 addr show eth0 | grep -o 'inet [0-9.]*')
echo random-later $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
"#;

/// What a machine shows, name by name.
fn observed(world: &World, machine: &str, line: &str) -> BTreeMap<String, String> {
    let text = world.sh(machine, line);
    let words = text.lines().map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{machine}: {text}")));
    words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Of each name, all values differ.
#[track_caller]
fn assert_distinct(seen: &[BTreeMap<String, String>]) {
    for name in seen[0].keys() {
        let values: BTreeSet<_> = seen.iter().map(|one| &one[name]).collect();
        assert_eq!(values.len(), seen.len(), "{name}: {values:#?}");
        assert!(values.iter().all(|value| !value.is_empty()), "{name}");
    }
}

/// Waits for a page of the machine's, kept as `kept`.
fn kept(world: &World) {
    let image = world.busybox();
    world.start(["--name", "web", "-m", "128m", &image, "sh", "-c", NOTICE]);
    until("it is ready", || (world.mimeo(["logs", "web"]).stdout == "ready\n").then_some(()));
    world.snapshot("web", "kept");
}

fn host() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// How far the machine's clock is from the host's, at least: the best of a few
/// tries, each as good as its way there and back is short.
fn clock_off(world: &World, machine: &str) -> Duration {
    let one = || {
        let before = host();
        let told = world.sh(machine, "adjtimex");
        let after = host();
        let number = |name: &str| {
            let value =
                told.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse::<u64>().ok());
            value.unwrap_or_else(|| panic!("no {name} in {told}"))
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
    kept(&world);
    let count = COPIES.to_string();
    let copies = world.clones(&["kept", "-n", &count, "--name", "copy"]);
    assert_eq!(copies.len(), COPIES);
    let names: Vec<_> = copies.iter().map(|copy| copy["name"].as_str().expect("a name")).collect();
    let mut seen = Vec::new();
    for (name, copy) in names.iter().zip(&copies) {
        until("it has noticed", || (!world.sh(name, "ls /noticed 2>&-; true").is_empty()).then_some(()));
        let one = observed(&world, name, OBSERVE);
        // Both sides say the same.
        assert_eq!(copy["generation"], *one["generation"]);
        assert_eq!(copy["id"].as_str().expect("an id")[..12], *one["host"]);
        let machine = world.inspect(name);
        let network = &machine["NetworkSettings"];
        assert_eq!(network["MacAddress"], *one["mac"], "{name}");
        assert_eq!(format!("inet {}", network["IPAddress"].as_str().expect("text")), one["ip"]);
        assert_lines(&machine);
        seen.push(one);
    }
    // The source among them, as far as it can be asked.
    let mut line = String::from("echo random 0; echo uuid 0\n");
    line.push_str(OBSERVE.trim_start().trim_start_matches("cat /noticed"));
    seen.push(observed(&world, "web", &line));
    assert_distinct(&seen);
    assert_eq!(world.sh("web", "ls /noticed 2>&-; true"), "");
    world.assert_removes_all();
}

#[test]
fn fifty_clones_have_the_hosts_clock() {
    let world = World::new(User::Root);
    kept(&world);
    let copies = world.clones(&["kept", "-n", &COPIES.to_string(), "--name", "copy"]);
    for copy in copies {
        let name = copy["name"].as_str().expect("a name");
        let off = clock_off(&world, name);
        assert!(off <= CLOCK, "{name} is {off:?} off");
    }
    world.assert_removes_all();
}

#[test]
fn pauses_and_snapshots_keep_the_clock() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "box", "-m", "128m", &image, "sleep", "1000"]);
    let within = |what: &str| {
        let off = clock_off(&world, "box");
        assert!(off <= Duration::from_secs(1), "{off:?} off after {what}");
    };
    within("its start");
    world.mimeo(["pause", "box"]).ok();
    // Whether the guest's clock stops meanwhile depends on what drives the machine.
    std::thread::sleep(Duration::from_secs(4));
    world.mimeo(["unpause", "box"]).ok();
    within("a pause");
    for tag in ["one", "two", "three"] {
        world.snapshot("box", tag);
    }
    within("three snapshots");
    world.assert_removes_all();
}

/// All lines are told, and are well.
#[track_caller]
fn assert_lines(machine: &Value) {
    let lines = machine["Identity"].as_array().expect("a list");
    let names: Vec<_> = lines.iter().map(|line| line["Line"].as_str().expect("a name")).collect();
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
    let well = |line: &&Value| line["Outcome"] == "done" || line["Outcome"] == "not_needed";
    assert!(lines.iter().all(|line| well(&line)), "{lines:#?}");
}

#[test]
fn pool_clones_have_distinct_identities() {
    let world = World::new(User::Root);
    kept(&world);
    let served = world.serve(&["kept", "--pool", "4"]);
    until("the pool is full", || world.server_status(&served.id).filter(|serve| serve["ready"] == 4));
    let copies = world.clones(&["--pid", &served.pid, "-n", "6", "--name", "copy"]);
    let seen: Vec<_> = copies
        .iter()
        .map(|copy| {
            let name = copy["name"].as_str().expect("a name");
            until("it has noticed", || (!world.sh(name, "ls /noticed 2>&-; true").is_empty()).then_some(()));
            let one = observed(&world, name, OBSERVE);
            assert_eq!(copy["generation"], *one["generation"], "{name}");
            assert_lines(&world.inspect(name));
            let off = clock_off(&world, name);
            assert!(off <= CLOCK, "{name} is {off:?} off");
            one
        })
        .collect();
    assert_distinct(&seen);
    served.end(rustix::process::Signal::TERM);
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
    until("the page comes", || world.fetch_page(&world.published("web", "8000")));
    // It starts after the page's server; until then QEMU accepts connections that the guest resets.
    let listening = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ':0007 .* 0A '; true";
    until("the echo listens", || (world.sh("web", listening) != "0").then_some(()));
    let poller = e2e::Poller::lines(&world.published("web", "7"));
    let established = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '; true";
    until("the connection is there", || (world.sh("web", established) != "0").then_some(()));
    world.snapshot("web", "kept");
    world.clones(&["kept", "--name", "copy"]);
    assert_eq!(world.sh("copy", established), "0");
    assert_eq!(world.fetch_page(&world.published("copy", "8000")).as_deref(), Some("page\n"));
    assert_ne!(world.sh("web", established), "0");
    assert!(poller.stop().len() > 5);
    world.assert_removes_all();
}

/// A file of the host's and the libraries that it needs, at their places.
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
    let before = observed(&world, "web", keys);
    assert_eq!(before.len(), 4, "{before:#?}");
    world.snapshot("web", "kept");
    let mut seen = vec![before.clone()];
    for copy in world.clones(&["kept", "-n", "3", "--name", "copy"]) {
        let name = copy["name"].as_str().expect("a name");
        seen.push(observed(&world, name, keys));
        assert_lines(&world.inspect(name));
    }
    assert_distinct(&seen);
    assert_eq!(observed(&world, "web", keys), before);
    world.assert_removes_all();
}
