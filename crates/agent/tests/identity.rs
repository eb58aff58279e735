//! Freezing, attaching and applying an identity, in real machines. The agent of a
//! clone sees its session end while the workload is frozen. The tests do the same
//! to a machine, which then stands for a clone.
#![allow(missing_debug_implementations, unreachable_pub, reason = "a test's own helpers")]
#![allow(dead_code, unused_imports, reason = "the helpers are also those of the other test files")]

mod harness;

use std::time::Instant;

use harness::{
    COUNTER, Running, Share, Vm, assert_step_failed, command, configure, identity, pause_briefly, serve,
    shell,
};
use mimeo_agent_protocol::message::{
    ExitStatus, FailureKind, Identity, IdentityStep, Interface, Process, Reply, Request, Step, StepOutcome,
};
use tokio::net::{TcpListener, TcpStream};

fn outcomes(steps: &[IdentityStep]) -> Vec<(Step, StepOutcome)> {
    steps.iter().map(|step| (step.step, step.outcome)).collect()
}

fn failure(reply: Reply) -> FailureKind {
    match reply {
        Reply::Failed(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_freeze_stops_the_workload_and_a_thaw_resumes_it() {
    let mut vm = Vm::boot().await;
    vm.freeze().await;
    vm.succeed(Request::Configure(Box::new(configure(true)))).await;
    let aside = Process { aside: true, ..shell("true") };
    assert_eq!(failure(vm.request(Request::Start(aside)).await), FailureKind::Invalid);
    vm.thaw().await;
    let _container = vm.start(shell(&format!("echo 0 > /dev/shm/n; {COUNTER}"))).await;
    pause_briefly().await;
    assert!(!vm.is_frozen().await);
    for turn in 0..4 {
        let started = Instant::now();
        vm.freeze().await;
        let frozen = started.elapsed();
        let started = Instant::now();
        vm.freeze().await;
        let again = started.elapsed();
        assert!(vm.is_frozen().await);
        let mut pending = vm.open(&Request::Exec(shell("true")));
        let started = Instant::now();
        vm.thaw().await;
        let thawed = started.elapsed();
        assert!(
            matches!(pending.receiver.message().await, Ok(Reply::Started { .. })),
            "it waits for the thaw"
        );
        eprintln!("turn {turn}: freeze {frozen:?}, once more {again:?}, thaw {thawed:?}");
        vm.thaw().await;
        assert!(!vm.is_frozen().await);
    }
    assert_eq!(failure(vm.request(Request::Identify(Box::new(identity()))).await), FailureKind::WrongState);
    let left = vm.exec(Process { aside: true, ..shell(&COUNTER.replace("/n", "/aside")) }).await;
    vm.freeze().await;
    let before = vm.aside("cat /dev/shm/aside").await;
    pause_briefly().await;
    assert_eq!(vm.aside("cat /dev/shm/aside").await, before, "what ran aside is frozen too");
    drop(left);
    assert_eq!(vm.request(Request::Shutdown).await, Reply::Done);
    vm.wait_for_exit().await;
    assert!(!vm.console().contains("unmount"), "{}", vm.console());
}

#[tokio::test]
async fn a_workload_that_cannot_be_frozen_is_resumed() {
    let vm = Vm::configured().await;
    let share = Share::default();
    serve(&vm, &share, "/srv", None, false).await;
    let stuck = "while ! test -e /dev/shm/go; do sleep 0.05; done; exec cat /srv/never";
    let mut container = vm.start(shell(&format!("({stuck}) & echo up; {COUNTER}"))).await;
    container.wait_for_output("up").await;
    share.stop_answering();
    vm.sh("touch /dev/shm/go").await;
    pause_briefly().await;
    let Reply::Failed(failure) = vm.request(Request::Freeze).await else {
        panic!("cat waits for the host and cannot be frozen")
    };
    let message = failure.message;
    assert!(message.starts_with("cannot freeze the workload: cat ("), "{message}");
    assert!(!vm.is_frozen().await, "the other processes are thawed");
    assert_eq!(
        vm.request(Request::Thaw { unix_nanos: None, advance_nanos: 0, since: None }).await,
        Reply::Done
    );
}

#[tokio::test]
async fn a_new_session_takes_the_container_over() {
    let script = "echo up; while ! test -e /dev/shm/go; do sleep 0.05; done
        i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done
        read line; echo got $line; read line; echo got $line; exit 7";
    let mut vm = Vm::configured().await;
    assert_eq!(failure(vm.request(Request::Attach).await), FailureKind::WrongState);
    let mut container = vm.start(Process { stdin: true, ..shell(script) }).await;
    container.wait_for_output("up").await;
    vm.freeze().await;
    let _pending = vm.open(&Request::Exec(shell("touch /dev/shm/asked-for-before")));
    pause_briefly().await;
    vm.reconnect().await;
    vm.thaw().await;
    vm.sh("test ! -e /dev/shm/asked-for-before; touch /dev/shm/go").await;
    pause_briefly().await;
    let mut first = vm.attach().await;
    assert_eq!(first.pid, 1);
    first.wait_for_output("\n20000\n").await;
    let numbers: Vec<u32> =
        first.output_so_far().lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers.into_iter().eq(1..=20000), "output was lost");
    first.input(b"one\n").await;
    first.wait_for_output("got one").await;
    let second = vm.attach().await;
    assert!(first.stream.receiver.next().await.expect("an end").is_none(), "the newest has it");
    drop(first);
    second.input(b"two\n").await;
    let output = second.output().await;
    assert_eq!((&*output.stdout, output.status), ("got two\n", ExitStatus::Code(7)));
    let Reply::Exited { status } = vm.request(Request::Attach).await else {
        panic!("the container has ended")
    };
    assert_eq!(status, ExitStatus::Code(7));
    vm.freeze().await;
    let steps = vm.identify(Identity { signal: Some(10), ..identity() }).await;
    let succeeded = |step: &IdentityStep| matches!(step.outcome, StepOutcome::Done | StepOutcome::NotNeeded);
    assert!(steps.iter().all(succeeded), "an ended container gets an identity too: {steps:#?}");
    vm.thaw().await;
}

#[tokio::test]
async fn an_exit_status_waits_for_the_next_session() {
    let (mut vm, mut container) =
        Vm::running("echo up; while ! test -e /dev/shm/go; do sleep 0.05; done; echo last words; exit 3")
            .await;
    container.wait_for_output("up").await;
    vm.freeze().await;
    vm.reconnect().await;
    vm.thaw().await;
    vm.sh("touch /dev/shm/go").await;
    pause_briefly().await;
    pause_briefly().await;
    let output = vm.attach().await.output().await;
    assert_eq!((&*output.stdout, output.status), ("last words\n", ExitStatus::Code(3)));
}

#[tokio::test]
async fn a_clone_of_an_unconfigured_guest_is_named_by_configure() {
    let vm = Vm::boot().await;
    vm.freeze().await;
    assert_step_failed(
        &vm.identify(Identity { entropy: "5a".into(), ..identity() }).await,
        Step::Entropy,
        "hexadecimal",
    );
    let steps = vm.identify(identity()).await;
    let done = [Step::Entropy, Step::VmGeneration, Step::Clock];
    for (step, outcome) in outcomes(&steps) {
        let expected = if done.contains(&step) { StepOutcome::Done } else { StepOutcome::NotNeeded };
        assert_eq!(outcome, expected, "{steps:?}");
    }
    let mut changed = configure(true);
    changed.entropy = Some("a5".repeat(32));
    changed.vm_generation = Some("0198a1b2-0000-4000-8000-00000000000f".into());
    changed.env.insert("TOKEN".into(), "secret".into());
    changed.interface.as_mut().expect("a NIC").mac = "02:00:00:00:00:09".into();
    vm.succeed(Request::Configure(Box::new(changed))).await;
    assert_eq!(failure(vm.request(Request::Identify(Box::new(identity()))).await), FailureKind::WrongState);
    let mut container = vm.start(shell("cat /run/mimeo/generation /run/mimeo/env; exec sleep 1000")).await;
    container.wait_for_output("TOKEN=secret\n").await;
    assert!(container.output_so_far().starts_with("0198a1b2-0000-4000-8000-00000000000f\n"));
    let nic = vm.sh("ip addr").await;
    assert!(nic.contains("02:00:00:00:00:09") && !nic.contains("02:00:00:00:00:07"), "{nic}");
    assert_eq!(vm.sh("stat -c %a /run/mimeo/env /run/mimeo/generation").await, "600\n644\n");
    assert_eq!(
        vm.sh("touch /run/mimeo/x 2>&1 || true").await,
        "touch: /run/mimeo/x: Read-only file system\n"
    );
}

/// A script that sets up everything that a clone can inherit.
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

/// A script that opens connections, to the host's `port` and within the machine, and a listener.
fn connections(port: u16) -> String {
    format!(
        "nc -ll -p 7000 -e cat & sleep 0.5
        sleep 1000 | nc 127.0.0.1 7000 &
        sleep 1000 | nc 10.0.2.15 7000 &
        sleep 1000 | nc 10.0.2.2 {port} &"
    )
}

/// A machine with everything that a clone can inherit, frozen, in its second session.
async fn frozen_source(mut vm: Vm, listener: &TcpListener) -> (Vm, TcpStream) {
    vm.succeed(Request::Configure(Box::new(configure(true)))).await;
    let port = listener.local_addr().expect("an address").port();
    let script = format!(
        "{INHERITED}\n{}\ntrap 'echo signalled; cat /run/mimeo/generation' USR2\necho up\n{COUNTER}",
        connections(port)
    );
    let mut container = vm.start(shell(&script)).await;
    container.wait_for_output("up").await;
    let (connection, _) = listener.accept().await.expect("a connection");
    wait_for_connections(&vm, 5).await;
    vm.freeze().await;
    vm.reconnect().await;
    (vm, connection)
}

const CONNECTIONS: &str = "cat /proc/net/tcp /proc/net/tcp6";

/// Waits until the machine has `expected` connections.
async fn wait_for_connections(vm: &Vm, expected: usize) {
    for _ in 0..20 {
        if established_count(&vm.aside(CONNECTIONS).await) == expected {
            return;
        }
        pause_briefly().await;
    }
    panic!("{}", vm.aside(CONNECTIONS).await);
}

fn established_count(text: &str) -> usize {
    text.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

#[tokio::test]
async fn a_clone_differs_in_every_visible_identity() {
    let listener = listener().await;
    let (vm, mut connection) = frozen_source(Vm::boot().await, &listener).await;
    let own_boot_id = vm.aside("cat /proc/sys/kernel/random/boot_id").await;
    // The host provides no IPv6. A workload that enables it gets a link-local address from the kernel.
    assert!(!vm.aside("ip addr").await.contains("fe80"), "the NIC has IPv4 only");
    vm.aside("echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6").await;
    let mut clone_identity = identity();
    clone_identity.signal = Some(12);
    // A clone in a pool gets its identity twice: when it enters the pool, and when it is taken from it.
    let started = Instant::now();
    let steps = vm.identify(Identity { thaw: false, ..clone_identity.clone() }).await;
    eprintln!("identify with keys and hooks: {:?}", started.elapsed());
    assert_all_done(&steps, StepOutcome::NotNeeded);
    assert_eq!(
        steps[5].detail.as_deref(),
        Some("3 destroyed"),
        "with both ends of the connection to its old address"
    );
    assert!(vm.is_frozen().await);
    let mut container = vm.attach().await;
    let steps = vm.identify(clone_identity).await;
    assert_all_done(&steps, StepOutcome::Done);
    assert_eq!(steps[6].detail.as_deref(), Some("already applied"), "the keys are not generated again");
    let uuid = identity().vm_generation;
    container.wait_for_output(&format!("signalled\n{uuid}\n")).await;
    assert!(!vm.is_frozen().await);
    assert_names_changed(&vm, &own_boot_id).await;
    assert_nic_changed(&vm).await;
    assert_connections_replaced(&vm, &listener).await;
    let mut byte = [0];
    let received = tokio::io::AsyncReadExt::read(&mut connection, &mut byte);
    let received = tokio::time::timeout(std::time::Duration::from_millis(300), received).await;
    assert!(received.is_err(), "the source's peer receives nothing from the clone: {received:?}");
    assert_keys_replaced_and_hooks_run(&vm, &uuid).await;
}

fn assert_all_done(steps: &[IdentityStep], thaw: StepOutcome) {
    let expected: Vec<_> = Step::ALL.into_iter().map(|step| (step, StepOutcome::Done)).collect();
    let found = outcomes(steps);
    let without = |list: &[(Step, StepOutcome)]| {
        // The second time there are no connections to destroy.
        let skip = |(step, _): &&(Step, StepOutcome)| !matches!(step, Step::Connections | Step::Thaw);
        list.iter().filter(skip).copied().collect::<Vec<_>>()
    };
    assert_eq!(without(&found), without(&expected), "{steps:#?}");
    assert_eq!(found.last(), Some(&(Step::Thaw, thaw)), "{steps:#?}");
    assert!(matches!(found[5].1, StepOutcome::Done | StepOutcome::NotNeeded), "{steps:#?}");
}

async fn assert_names_changed(vm: &Vm, own_boot_id: &str) {
    assert_eq!(vm.sh("hostname; cat /etc/hostname; echo $HOSTNAME").await, "clone\nclone\nclone\n");
    assert_eq!(vm.sh("cat /etc/resolv.conf").await, "search example.net\nnameserver 10.0.2.4\n");
    let hosts = vm.sh("cat /etc/hosts").await;
    assert!(hosts.ends_with("10.0.2.16\tclone\n10.9.8.6\tcache\n") && !hosts.contains("box"), "{hosts}");
    assert_eq!(vm.sh("cat /etc/machine-id").await, format!("{}\n", "c".repeat(32)));
    let boot_id = vm.sh("cat /proc/sys/kernel/random/boot_id").await;
    assert!(boot_id.len() == 37 && boot_id != own_boot_id, "{boot_id}");
    assert_eq!(vm.sh("cat /run/mimeo/env").await, "TOKEN=the clone's own\n");
    let now: u64 = vm.sh("touch /tmp/now; stat -c %Y /tmp/now").await.trim().parse().expect("seconds");
    assert!((1_850_000_000..1_850_000_030).contains(&now), "{now}");
}

async fn assert_nic_changed(vm: &Vm) {
    let nic = vm.sh("ip addr").await;
    assert!(nic.contains("02:00:00:00:00:08") && !nic.contains("02:00:00:00:00:07"), "{nic}");
    assert!(nic.contains("inet 10.0.2.16/24 brd 10.0.2.255") && nic.contains("mtu 1300"), "{nic}");
    assert!(!nic.contains("10.0.2.15") && !nic.contains("fe80::ff:fe00:7/64"), "{nic}");
    assert!(nic.contains("fe80::ff:fe00:8/64"), "{nic}");
    let route = vm.sh("ip route").await;
    assert_eq!(route.matches("default via 10.0.2.2 dev").count(), 1, "{route}");
    assert!(!route.contains("10.0.2.15"), "{route}");
}

async fn assert_connections_replaced(vm: &Vm, listener: &TcpListener) {
    let port = listener.local_addr().expect("an address").port();
    let text = vm.sh(CONNECTIONS).await;
    let listening = text.lines().any(|line| line.split_whitespace().nth(3) == Some("0A"));
    assert!(established_count(&text) == 2 && listening, "only connections within the machine remain: {text}");
    let client = vm.exec(shell(&format!("echo hello | nc -w 5 10.0.2.2 {port}"))).await.expect("runs");
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let mut received_bytes = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut connection, &mut received_bytes).await.expect("reads");
    assert_eq!(&received_bytes, b"hello\n");
    drop((connection, client));
}

async fn assert_keys_replaced_and_hooks_run(vm: &Vm, uuid: &str) {
    assert_eq!(
        vm.sh("cat /tmp/hook").await,
        format!("{uuid} {} clone clone\nclone\nclone\n", "c".repeat(64))
    );
    assert_eq!(vm.sh("ls /tmp").await, "hook\nhup\nnow\n", "sshd has got SIGHUP");
    assert_eq!(vm.sh("ls -A /etc/ssh | wc -l").await.trim(), "4");
    assert_eq!(
        vm.sh("cd /etc/ssh; cat ssh_host_ed25519_key ssh_host_ed25519_key.pub ssh_host_other_key").await,
        "new ed25519\nssh-ed25519 new\nnew ecdsa\n"
    );
}

#[tokio::test]
async fn a_clone_with_a_failed_step_stays_frozen() {
    let listener = listener().await;
    let (vm, _connection) = frozen_source(Vm::boot().await, &listener).await;
    let with = |change: &dyn Fn(&mut Identity)| {
        let mut changed = identity();
        change(&mut changed);
        changed
    };
    let cases: [(Identity, Step, &str); 8] = [
        (with(&|changed| changed.entropy = "5a".repeat(31)), Step::Entropy, "64 hexadecimal digits"),
        (with(&|changed| changed.entropy = "zz".repeat(32)), Step::Entropy, "64 hexadecimal digits"),
        (with(&|changed| changed.vm_generation = "7".into()), Step::VmGeneration, "not a UUID"),
        (with(&|changed| changed.unix_nanos = 0), Step::Clock, "invalid clock: 0"),
        (with(&|changed| changed.hostname = "x".repeat(100)), Step::Names, "set the host name"),
        (with(&|changed| changed.machine = "short".into()), Step::Names, "machine-id"),
        (with(&|changed| nic(changed).mac = "02:00:00:00:00".into()), Step::Network, "MAC address"),
        (with(&|changed| nic(changed).address.prefix = 33), Step::Network, "10.0.2.16/33"),
    ];
    for (identity, step, why) in cases {
        assert_step_failed(&vm.identify(identity).await, step, why);
        assert!(vm.is_frozen().await, "{step:?}");
    }
    keys_and_hooks_of_the_image_may_fail(&vm).await;
    for (name, value) in [("A=B", "x"), ("A", "x\0y")] {
        let mut changed = identity();
        changed.env = [(name.to_owned(), value.to_owned())].into();
        assert_step_failed(&vm.identify(changed).await, Step::Environment, "A");
        assert!(vm.is_frozen().await);
    }
    let mut changed = identity();
    changed.signal = Some(99);
    assert_step_failed(&vm.identify(changed).await, Step::Hooks, "send signal 99");
    assert!(vm.is_frozen().await);
    assert_all_done(&vm.identify(identity()).await, StepOutcome::Done);
    assert!(!vm.is_frozen().await, "failed attempts have no effect");
}

fn nic(identity: &mut Identity) -> &mut Interface {
    identity.interface.as_mut().expect("a NIC")
}

async fn keys_and_hooks_of_the_image_may_fail(vm: &Vm) {
    vm.aside("touch /tmp/no-keys").await;
    let why = "/etc/ssh/ssh_host_ed25519_key: exit code 5: no entropy";
    assert_step_failed(&vm.identify(identity()).await, Step::SshKeys, why);
    assert!(vm.is_frozen().await);
    assert_eq!(vm.aside("cat /etc/ssh/ssh_host_ed25519_key").await, "old\n");
    vm.aside("mv /bin/ssh-keygen /bin/other").await;
    assert_step_failed(&vm.identify(identity()).await, Step::SshKeys, "`ssh-keygen` not found");
    vm.aside("mv /bin/other /bin/ssh-keygen; rm /tmp/no-keys").await;
    vm.aside("cd /etc/mimeo/clone.d; (echo '#!/bin/sh'; echo 'echo first; echo why >&2; exit 9') > 15-fail; chmod 755 15-fail").await;
    assert_step_failed(&vm.identify(identity()).await, Step::Hooks, "15-fail: exit code 9: why");
    assert!(vm.is_frozen().await);
    vm.aside("rm /etc/mimeo/clone.d/15-fail").await;
}

#[tokio::test]
async fn connections_that_cannot_be_destroyed_are_reported() {
    let listener = listener().await;
    let (vm, _connection) = frozen_source(Vm::boot_with(&["fuse"]).await, &listener).await;
    assert_step_failed(&vm.identify(identity()).await, Step::Connections, "list the TCP connections");
    assert!(vm.is_frozen().await);
}

#[tokio::test]
async fn a_clone_may_have_no_network() {
    let (vm, mut container) = Vm::running(&format!("echo up; {COUNTER}")).await;
    container.wait_for_output("up").await;
    for _ in 0..3 {
        vm.freeze().await;
        let started = Instant::now();
        let steps = vm.identify(identity()).await;
        eprintln!("identify with nothing to make or run: {:?}", started.elapsed());
        assert_eq!(outcomes(&steps)[4], (Step::Network, StepOutcome::Done), "{steps:#?}");
        assert!(!vm.is_frozen().await);
    }
    vm.freeze().await;
    let steps = vm.identify(Identity { interface: None, ..identity() }).await;
    assert_eq!(outcomes(&steps)[4], (Step::Network, StepOutcome::Done), "{steps:#?}");
    assert_eq!(outcomes(&steps)[9], (Step::Thaw, StepOutcome::Done), "{steps:#?}");
    assert_eq!(vm.sh("ip route").await, "");
    let nic = vm.sh("ip addr").await;
    assert!(!nic.contains("inet 10.") && !nic.contains("fe80") && nic.contains("inet 127.0.0.1"), "{nic}");
}
