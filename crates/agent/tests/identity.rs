//! Freezing, attaching and becoming another, in real machines. A copy is what
//! a snapshot of a frozen machine is; to its agent that is a session that ends
//! while the workload stands, which is how these tests make one.
#![allow(missing_debug_implementations, unreachable_pub, reason = "a test's own helpers")]
#![allow(dead_code, unused_imports, reason = "the helpers are also those of the other test files")]

mod harness;

use std::time::Instant;

use harness::{COUNTER, Running, Share, Vm, a_moment, broken, command, configure, identity, serve, shell};
use mimeo_agent_protocol::message::{
    ExitStatus, FailureKind, Identity, IdentityLine, Interface, Line, Outcome, Process, Reply, Request,
};
use tokio::net::{TcpListener, TcpStream};

fn outcomes(lines: &[IdentityLine]) -> Vec<(Line, Outcome)> {
    lines.iter().map(|line| (line.line, line.outcome)).collect()
}

fn failure(reply: Reply) -> FailureKind {
    match reply {
        Reply::Failed(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_freeze_stops_the_workload_and_a_thaw_lets_it_go_on() {
    let mut vm = Vm::boot().await;
    vm.freeze().await;
    vm.must(Request::Configure(Box::new(configure(true)))).await;
    let beside = Process { aside: true, ..shell("true") };
    assert_eq!(failure(vm.ask(Request::Start(beside)).await), FailureKind::Invalid);
    vm.thaw().await;
    let _container = vm.start(shell(&format!("echo 0 > /dev/shm/n; {COUNTER}"))).await;
    a_moment().await;
    assert!(!vm.stands().await);
    for turn in 0..4 {
        let begun = Instant::now();
        vm.freeze().await;
        let frozen = begun.elapsed();
        let begun = Instant::now();
        vm.freeze().await;
        let again = begun.elapsed();
        assert!(vm.stands().await);
        let mut waits = vm.open(&Request::Exec(shell("true")));
        let begun = Instant::now();
        vm.thaw().await;
        let thawed = begun.elapsed();
        assert!(matches!(waits.receiver.message().await, Ok(Reply::Started { .. })), "it waits for the thaw");
        eprintln!("turn {turn}: freeze {frozen:?}, once more {again:?}, thaw {thawed:?}");
        vm.thaw().await;
        assert!(!vm.stands().await);
    }
    assert_eq!(failure(vm.ask(Request::Identify(Box::new(identity()))).await), FailureKind::WrongState);
    let left = vm.exec(Process { aside: true, ..shell(&COUNTER.replace("/n", "/aside")) }).await;
    vm.freeze().await;
    let before = vm.aside("cat /dev/shm/aside").await;
    a_moment().await;
    assert_eq!(vm.aside("cat /dev/shm/aside").await, before, "what ran aside is frozen too");
    drop(left);
    assert_eq!(vm.ask(Request::Shutdown).await, Reply::Done);
    vm.gone().await;
    assert!(!vm.console().contains("unmount"), "{}", vm.console());
}

#[tokio::test]
async fn a_workload_that_does_not_hold_still_goes_on() {
    let vm = Vm::configured().await;
    let share = Share::default();
    serve(&vm, &share, "/srv", None, false).await;
    let stuck = "while ! test -e /dev/shm/go; do sleep 0.05; done; exec cat /srv/never";
    let mut container = vm.start(shell(&format!("({stuck}) & echo up; {COUNTER}"))).await;
    container.says("up").await;
    share.fall_silent();
    vm.sh("touch /dev/shm/go").await;
    a_moment().await;
    let Reply::Failed(failure) = vm.ask(Request::Freeze).await else { panic!("it waits for the host") };
    let message = failure.message;
    assert!(message.starts_with("the workload does not hold still: cat ("), "{message}");
    assert!(!vm.stands().await, "the rest goes on");
    assert_eq!(vm.ask(Request::Thaw { unix_nanos: None, advance_nanos: 0, since: None }).await, Reply::Done);
}

#[tokio::test]
async fn a_new_session_takes_the_container_over() {
    let script = "echo up; while ! test -e /dev/shm/go; do sleep 0.05; done
        i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done
        read line; echo got $line; read line; echo got $line; exit 7";
    let mut vm = Vm::configured().await;
    assert_eq!(failure(vm.ask(Request::Attach).await), FailureKind::WrongState);
    let mut container = vm.start(Process { stdin: true, ..shell(script) }).await;
    container.says("up").await;
    vm.freeze().await;
    let _waits = vm.open(&Request::Exec(shell("touch /dev/shm/asked-for-before")));
    a_moment().await;
    vm.come_back().await;
    vm.thaw().await;
    vm.sh("test ! -e /dev/shm/asked-for-before; touch /dev/shm/go").await;
    a_moment().await;
    let mut first = vm.attach().await;
    assert_eq!(first.pid, 1);
    first.says("\n20000\n").await;
    let numbers: Vec<u32> = first.said().lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers.into_iter().eq(1..=20000), "something was lost");
    first.input(b"one\n").await;
    first.says("got one").await;
    let second = vm.attach().await;
    assert!(first.stream.receiver.next().await.expect("an end").is_none(), "the newest has it");
    drop(first);
    second.input(b"two\n").await;
    let output = second.output().await;
    assert_eq!((&*output.stdout, output.status), ("got two\n", ExitStatus::Code(7)));
    let Reply::Exited { status } = vm.ask(Request::Attach).await else { panic!("it has ended") };
    assert_eq!(status, ExitStatus::Code(7));
    vm.freeze().await;
    let lines = vm.identify(Identity { signal: Some(10), ..identity() }).await;
    let all_is_well = |line: &IdentityLine| matches!(line.outcome, Outcome::Done | Outcome::NotNeeded);
    assert!(lines.iter().all(all_is_well), "an ended container has an identity too: {lines:#?}");
    vm.thaw().await;
}

#[tokio::test]
async fn an_end_waits_for_the_next_session() {
    let (mut vm, mut container) =
        Vm::running("echo up; while ! test -e /dev/shm/go; do sleep 0.05; done; echo last words; exit 3")
            .await;
    container.says("up").await;
    vm.freeze().await;
    vm.come_back().await;
    vm.thaw().await;
    vm.sh("touch /dev/shm/go").await;
    a_moment().await;
    a_moment().await;
    let output = vm.attach().await.output().await;
    assert_eq!((&*output.stdout, output.status), ("last words\n", ExitStatus::Code(3)));
}

#[tokio::test]
async fn a_copy_that_has_no_name_yet_is_given_one_by_configure() {
    let vm = Vm::boot().await;
    vm.freeze().await;
    broken(&vm.identify(Identity { entropy: "5a".into(), ..identity() }).await, Line::Entropy, "hexadecimal");
    let lines = vm.identify(identity()).await;
    let done = [Line::Entropy, Line::Generation, Line::Clock];
    for (line, outcome) in outcomes(&lines) {
        let wanted = if done.contains(&line) { Outcome::Done } else { Outcome::NotNeeded };
        assert_eq!(outcome, wanted, "{lines:?}");
    }
    let mut own = configure(true);
    own.entropy = Some("a5".repeat(32));
    own.generation = Some("0198a1b2-0000-4000-8000-00000000000f".into());
    own.env.insert("TOKEN".into(), "secret".into());
    own.interface.as_mut().expect("a card").mac = "02:00:00:00:00:09".into();
    vm.must(Request::Configure(Box::new(own))).await;
    assert_eq!(failure(vm.ask(Request::Identify(Box::new(identity()))).await), FailureKind::WrongState);
    let mut container = vm.start(shell("cat /run/mimeo/generation /run/mimeo/env; exec sleep 1000")).await;
    container.says("TOKEN=secret\n").await;
    assert!(container.said().starts_with("0198a1b2-0000-4000-8000-00000000000f\n"));
    let card = vm.sh("ip addr").await;
    assert!(card.contains("02:00:00:00:00:09") && !card.contains("02:00:00:00:00:07"), "{card}");
    assert_eq!(vm.sh("stat -c %a /run/mimeo/env /run/mimeo/generation").await, "600\n644\n");
    assert_eq!(
        vm.sh("touch /run/mimeo/x 2>&1 || true").await,
        "touch: /run/mimeo/x: Read-only file system\n"
    );
}

/// Everything that a copy may have inherited.
const INHERITED: &str = r#"
    mkdir -p /etc/mimeo/clone.d /etc/ssh
    cd /etc/mimeo/clone.d
    cat > 10-look <<'END'
#!/bin/sh
(echo $MIMEO_GENERATION $MIMEO_MACHINE $MIMEO_HOSTNAME $HOSTNAME; hostname; cat /etc/hostname) > /tmp/hook
END
    echo 'touch /tmp/skipped' > 20-not-executable
    chmod 755 10-look
    cat > /bin/ssh-keygen <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -t) t=$2;; -f) f=$2;; esac; shift; done
test -e /tmp/no-keys && { echo one; echo no entropy; exit 5; }
case $t in ecdsa) word=ecdsa-sha2-nistp256;; *) word=ssh-$t;; esac
echo new $t > $f; echo $word new > $f.pub
END
    cat > /bin/sshd <<'END'
#!/bin/sh
trap 'echo hup > /tmp/hup' HUP
while :; do sleep 0.05; done
END
    chmod 755 /bin/ssh-keygen /bin/sshd
    cd /etc/ssh
    echo old > ssh_host_ed25519_key
    echo old > ssh_host_other_key
    echo ecdsa-sha2-nistp256 old > ssh_host_other_key.pub
    /bin/sshd &
"#;

/// Connections: to the host's `port`, within the machine, and a listener.
fn connections(port: u16) -> String {
    format!(
        "nc -ll -p 7000 -e cat & sleep 0.5
        sleep 1000 | nc 127.0.0.1 7000 &
        sleep 1000 | nc 10.0.2.15 7000 &
        sleep 1000 | nc 10.0.2.2 {port} &"
    )
}

/// A machine with everything that a copy can inherit, frozen, in its second session.
async fn inherited(mut vm: Vm, listener: &TcpListener) -> (Vm, TcpStream) {
    vm.must(Request::Configure(Box::new(configure(true)))).await;
    let port = listener.local_addr().expect("an address").port();
    let script = format!(
        "{INHERITED}\n{}\ntrap 'echo told; cat /run/mimeo/generation' USR2\necho up\n{COUNTER}",
        connections(port)
    );
    let mut container = vm.start(shell(&script)).await;
    container.says("up").await;
    let (connection, _) = listener.accept().await.expect("a connection");
    established(&vm, 5).await;
    vm.freeze().await;
    vm.come_back().await;
    (vm, connection)
}

const CONNECTIONS: &str = "cat /proc/net/tcp /proc/net/tcp6";

/// Waits until the machine has so many connections.
async fn established(vm: &Vm, wanted: usize) {
    for _ in 0..20 {
        if connected(&vm.aside(CONNECTIONS).await) == wanted {
            return;
        }
        a_moment().await;
    }
    panic!("{}", vm.aside(CONNECTIONS).await);
}

fn connected(text: &str) -> usize {
    text.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

#[tokio::test]
async fn a_copy_is_another_in_everything_that_can_be_seen() {
    let listener = listener().await;
    let (vm, mut connection) = inherited(Vm::boot().await, &listener).await;
    let own_boot_id = vm.aside("cat /proc/sys/kernel/random/boot_id").await;
    // The host gives the card no IPv6; a workload that wants it has what the kernel makes up.
    assert!(!vm.aside("ip addr").await.contains("fe80"), "a card for version 4");
    vm.aside("echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6").await;
    let mut wanted = identity();
    wanted.signal = Some(12);
    // In a pool a copy is made twice: when it is put there, and when it is taken out.
    let begun = Instant::now();
    let lines = vm.identify(Identity { thaw: false, ..wanted.clone() }).await;
    eprintln!("identify with keys and hooks: {:?}", begun.elapsed());
    all_done(&lines, Outcome::NotNeeded);
    assert_eq!(lines[5].detail.as_deref(), Some("3 ended"), "both ends that it had with its old address too");
    assert!(vm.stands().await);
    let mut container = vm.attach().await;
    let lines = vm.identify(wanted).await;
    all_done(&lines, Outcome::Done);
    assert_eq!(lines[6].detail.as_deref(), Some("made before"), "keys take long, and are its own already");
    let uuid = identity().generation;
    container.says(&format!("told\n{uuid}\n")).await;
    assert!(!vm.stands().await);
    it_has_other_names(&vm, &own_boot_id).await;
    it_has_another_card(&vm).await;
    its_connections_are_its_own(&vm, &listener).await;
    let mut byte = [0];
    let heard = tokio::io::AsyncReadExt::read(&mut connection, &mut byte);
    let heard = tokio::time::timeout(std::time::Duration::from_millis(300), heard).await;
    assert!(heard.is_err(), "the parent's peer hears nothing of the copy: {heard:?}");
    it_has_other_keys_and_its_hooks_have_run(&vm, &uuid).await;
}

fn all_done(lines: &[IdentityLine], thaw: Outcome) {
    let wanted: Vec<_> = Line::ALL.into_iter().map(|line| (line, Outcome::Done)).collect();
    let found = outcomes(lines);
    let without = |list: &[(Line, Outcome)]| {
        // The second time there is nothing left to end.
        let skip = |(line, _): &&(Line, Outcome)| !matches!(line, Line::Connections | Line::Thaw);
        list.iter().filter(skip).copied().collect::<Vec<_>>()
    };
    assert_eq!(without(&found), without(&wanted), "{lines:#?}");
    assert_eq!(found.last(), Some(&(Line::Thaw, thaw)), "{lines:#?}");
    assert!(matches!(found[5].1, Outcome::Done | Outcome::NotNeeded), "{lines:#?}");
}

async fn it_has_other_names(vm: &Vm, own_boot_id: &str) {
    assert_eq!(vm.sh("hostname; cat /etc/hostname; echo $HOSTNAME").await, "copy\ncopy\ncopy\n");
    assert_eq!(vm.sh("cat /etc/resolv.conf").await, "search example.net\nnameserver 10.0.2.4\n");
    let hosts = vm.sh("cat /etc/hosts").await;
    assert!(hosts.ends_with("10.0.2.16\tcopy\n10.9.8.6\tcache\n") && !hosts.contains("box"), "{hosts}");
    assert_eq!(vm.sh("cat /etc/machine-id").await, format!("{}\n", "c".repeat(32)));
    let boot_id = vm.sh("cat /proc/sys/kernel/random/boot_id").await;
    assert!(boot_id.len() == 37 && boot_id != own_boot_id, "{boot_id}");
    assert_eq!(vm.sh("cat /run/mimeo/env").await, "TOKEN=the copy's own\n");
    let now: u64 = vm.sh("touch /tmp/now; stat -c %Y /tmp/now").await.trim().parse().expect("seconds");
    assert!((1_850_000_000..1_850_000_030).contains(&now), "{now}");
}

async fn it_has_another_card(vm: &Vm) {
    let card = vm.sh("ip addr").await;
    assert!(card.contains("02:00:00:00:00:08") && !card.contains("02:00:00:00:00:07"), "{card}");
    assert!(card.contains("inet 10.0.2.16/24 brd 10.0.2.255") && card.contains("mtu 1300"), "{card}");
    assert!(!card.contains("10.0.2.15") && !card.contains("fe80::ff:fe00:7/64"), "{card}");
    assert!(card.contains("fe80::ff:fe00:8/64"), "{card}");
    let route = vm.sh("ip route").await;
    assert_eq!(route.matches("default via 10.0.2.2 dev").count(), 1, "{route}");
    assert!(!route.contains("10.0.2.15"), "{route}");
}

async fn its_connections_are_its_own(vm: &Vm, listener: &TcpListener) {
    let port = listener.local_addr().expect("an address").port();
    let text = vm.sh(CONNECTIONS).await;
    let listening = text.lines().any(|line| line.split_whitespace().nth(3) == Some("0A"));
    assert!(connected(&text) == 2 && listening, "only what it has with itself: {text}");
    let talking = vm.exec(shell(&format!("echo hello | nc -w 5 10.0.2.2 {port}"))).await.expect("runs");
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let mut said = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut connection, &mut said).await.expect("reads");
    assert_eq!(&said, b"hello\n");
    drop((connection, talking));
}

async fn it_has_other_keys_and_its_hooks_have_run(vm: &Vm, uuid: &str) {
    assert_eq!(vm.sh("cat /tmp/hook").await, format!("{uuid} {} copy copy\ncopy\ncopy\n", "c".repeat(64)));
    assert_eq!(vm.sh("ls /tmp").await, "hook\nhup\nnow\n", "the server has been told");
    assert_eq!(vm.sh("ls -A /etc/ssh | wc -l").await.trim(), "4");
    assert_eq!(
        vm.sh("cd /etc/ssh; cat ssh_host_ed25519_key ssh_host_ed25519_key.pub ssh_host_other_key").await,
        "new ed25519\nssh-ed25519 new\nnew ecdsa\n"
    );
}

#[tokio::test]
async fn a_copy_that_cannot_be_another_in_everything_stays_frozen() {
    let listener = listener().await;
    let (vm, _connection) = inherited(Vm::boot().await, &listener).await;
    let with = |change: &dyn Fn(&mut Identity)| {
        let mut changed = identity();
        change(&mut changed);
        changed
    };
    let cases: [(Identity, Line, &str); 8] = [
        (with(&|own| own.entropy = "5a".repeat(31)), Line::Entropy, "64 hexadecimal digits"),
        (with(&|own| own.entropy = "zz".repeat(32)), Line::Entropy, "64 hexadecimal digits"),
        (with(&|own| own.generation = "7".into()), Line::Generation, "not a UUID"),
        (with(&|own| own.unix_nanos = 0), Line::Clock, "no clock shows 0"),
        (with(&|own| own.hostname = "x".repeat(100)), Line::Names, "set the host name"),
        (with(&|own| own.machine = "short".into()), Line::Names, "machine-id"),
        (with(&|own| card(own).mac = "02:00:00:00:00".into()), Line::Network, "hardware address"),
        (with(&|own| card(own).address.prefix = 33), Line::Network, "10.0.2.16/33"),
    ];
    for (identity, line, why) in cases {
        broken(&vm.identify(identity).await, line, why);
        assert!(vm.stands().await, "{line:?}");
    }
    what_the_image_brings_may_fail(&vm).await;
    for (name, value) in [("A=B", "x"), ("A", "x\0y")] {
        let mut own = identity();
        own.env = [(name.to_owned(), value.to_owned())].into();
        broken(&vm.identify(own).await, Line::Environment, "A");
        assert!(vm.stands().await);
    }
    let mut own = identity();
    own.signal = Some(99);
    broken(&vm.identify(own).await, Line::Hooks, "send signal 99");
    assert!(vm.stands().await);
    all_done(&vm.identify(identity()).await, Outcome::Done);
    assert!(!vm.stands().await, "what was wrong is not remembered");
}

fn card(identity: &mut Identity) -> &mut Interface {
    identity.interface.as_mut().expect("a card")
}

async fn what_the_image_brings_may_fail(vm: &Vm) {
    vm.aside("touch /tmp/no-keys").await;
    let why = "/etc/ssh/ssh_host_ed25519_key: exit code 5: no entropy";
    broken(&vm.identify(identity()).await, Line::SshKeys, why);
    assert!(vm.stands().await);
    assert_eq!(vm.aside("cat /etc/ssh/ssh_host_ed25519_key").await, "old\n");
    vm.aside("mv /bin/ssh-keygen /bin/other").await;
    broken(&vm.identify(identity()).await, Line::SshKeys, "`ssh-keygen` not found");
    vm.aside("mv /bin/other /bin/ssh-keygen; rm /tmp/no-keys").await;
    vm.aside("cd /etc/mimeo/clone.d; (echo '#!/bin/sh'; echo 'echo first; echo why >&2; exit 9') > 15-fail; chmod 755 15-fail").await;
    broken(&vm.identify(identity()).await, Line::Hooks, "15-fail: exit code 9: why");
    assert!(vm.stands().await);
    vm.aside("rm /etc/mimeo/clone.d/15-fail").await;
}

#[tokio::test]
async fn connections_that_cannot_be_ended_are_told() {
    let listener = listener().await;
    let (vm, _connection) = inherited(Vm::boot_with(&["fuse"]).await, &listener).await;
    broken(&vm.identify(identity()).await, Line::Connections, "list the TCP connections");
    assert!(vm.stands().await);
}

#[tokio::test]
async fn a_copy_may_have_no_network() {
    let (vm, mut container) = Vm::running(&format!("echo up; {COUNTER}")).await;
    container.says("up").await;
    for _ in 0..3 {
        vm.freeze().await;
        let begun = Instant::now();
        let lines = vm.identify(identity()).await;
        eprintln!("identify with nothing to make or run: {:?}", begun.elapsed());
        assert_eq!(outcomes(&lines)[4], (Line::Network, Outcome::Done), "{lines:#?}");
        assert!(!vm.stands().await);
    }
    vm.freeze().await;
    let lines = vm.identify(Identity { interface: None, ..identity() }).await;
    assert_eq!(outcomes(&lines)[4], (Line::Network, Outcome::Done), "{lines:#?}");
    assert_eq!(outcomes(&lines)[9], (Line::Thaw, Outcome::Done), "{lines:#?}");
    assert_eq!(vm.sh("ip route").await, "");
    let card = vm.sh("ip addr").await;
    assert!(
        !card.contains("inet 10.") && !card.contains("fe80") && card.contains("inet 127.0.0.1"),
        "{card}"
    );
}
