//! The agent in real machines. Each test boots one.
#![allow(missing_debug_implementations, unreachable_pub, reason = "a test's own helpers")]
#![allow(dead_code, unused_imports, reason = "the helpers are also those of the other test files")]

mod harness;

use harness::{
    Output, Share, Vm, command, configure, pause_briefly, request_in_new_session, serve, shell,
    vsock_is_installed,
};
use mimeo_agent_protocol::message::{
    ExitStatus, FailureKind, FileKind, Input, Process, Reply, Request, TerminalSize,
};

const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

#[tokio::test]
async fn a_container_starts_and_ends() {
    let (mut vm, mut container) = Vm::running("echo hello; exec sleep 1000").await;
    eprintln!("first answer after {:?}", vm.answered_after);
    container.wait_for_output("hello").await;
    assert_eq!(container.pid, 1);
    vm.succeed(Request::Signal { signal: 15 }).await;
    let output = container.output().await;
    let expected = Output { stdout: "hello\n".into(), stderr: String::new(), status: ExitStatus::Signal(15) };
    assert_eq!(output, expected);
    assert_eq!(vm.refusal(shell("true")).await.kind, FailureKind::WrongState);
    assert_eq!(vm.request(Request::Shutdown).await, Reply::Done);
    vm.wait_for_exit().await;
    assert!(!vm.console().contains("unmount"), "{}", vm.console());
}

/// The first request of a session reaches an agent that is still busy with the session's beginning. If its
/// wake-up is lost, nothing else wakes the agent: no other request is in flight.
#[tokio::test]
async fn the_first_request_of_each_session_is_answered() {
    const SESSIONS: u32 = 1000;
    const REPLY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
    let mut vm = Vm::boot().await;
    let mut port = vm.hang_up().await;
    for number in 2..2 + SESSIONS {
        // A different delay each time.
        let delay = std::time::Duration::from_micros(u64::from(number * 7 % 1000));
        let heard =
            tokio::time::timeout(REPLY_TIMEOUT, request_in_new_session(&mut port, number, delay)).await;
        assert!(heard.is_ok(), "session {number} is silent\n{}", vm.console());
    }
}

/// As in Firecracker's guests, the link is a vsock device and disks are found by their position.
#[tokio::test]
async fn a_machine_without_a_serial_port_uses_vsock() {
    if !vsock_is_installed() {
        return;
    }
    let mut vm = Vm::boot_over_vsock().await;
    let mut request = configure(true);
    request.image.position = Some(0);
    request.writable.iter_mut().for_each(|disk| disk.position = Some(1));
    vm.succeed(Request::Configure(Box::new(request))).await;
    let mut container = vm.start(shell("echo hello; exec sleep 1000")).await;
    container.wait_for_output("hello").await;
    // Many times as much as a connection buffers.
    assert_eq!(vm.sh("head -c 4000000 /dev/zero | tr '\\0' x").await.len(), 4_000_000);
    // Saving a machine closes its connections, and its session continues.
    for turn in 0..3 {
        vm.freeze().await;
        vm.cut();
        vm.thaw().await;
        assert_eq!(vm.sh(&format!("echo {turn} > /turn; cat /turn")).await, format!("{turn}\n"));
    }
    vm.succeed(Request::Signal { signal: 15 }).await;
    let output = container.output().await;
    assert_eq!(output.status, ExitStatus::Signal(15), "its streams are those of the first session");
    vm.reconnect().await;
    assert_eq!(vm.request(Request::Shutdown).await, Reply::Done);
    vm.wait_for_exit().await;
}

#[tokio::test]
async fn processes_run_in_the_container() {
    let (mut vm, mut container) =
        Vm::running("echo up; trap 'echo bye; exit 3' TERM; cat; sleep 1000 & wait").await;
    container.wait_for_output("up").await;
    the_container_has_the_usual_environment(&vm).await;
    the_machine_is_configured(&vm).await;
    users_come_from_the_image(&vm).await;
    failed_commands_report_their_reason(&vm).await;
    exit_statuses_are_reported(&vm).await;
    streams_are_complete(&vm).await;
    input_ends(&vm).await;
    terminals_are_terminals(&vm).await;
    daemons_do_not_delay_the_exit(&vm).await;
    the_machine_reports_metrics(&vm).await;
    files_are_found(&vm).await;
    archives_are_complete(&vm).await;
    servers_are_probed(&vm).await;
    floods_do_not_block_other_streams(&vm).await;
    an_oom_kill_is_reported(&vm).await;
    vm.reconnect().await;
    assert_eq!(vm.sh("echo still here").await, "still here\n");
    vm.succeed(Request::Signal { signal: 15 }).await;
    assert_eq!(vm.request(Request::Shutdown).await, Reply::Done);
    vm.wait_for_exit().await;
    assert!(!vm.console().contains("unmount"), "{}", vm.console());
}

async fn the_container_has_the_usual_environment(vm: &Vm) {
    assert_eq!(vm.sh("readlink /proc/1/exe; readlink /proc/self/cwd").await, "/bin/busybox\n/\n");
    assert_eq!(
        vm.sh("umask; pwd; echo $HOME $PATH $HOSTNAME").await,
        "0022\n/\n/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin box\n"
    );
    assert_eq!(vm.sh("cat /proc/self/cgroup").await, "0::/\n");
    assert_eq!(vm.sh("ls /proc/self/fd | wc -l").await.trim(), "4", "streams and the listing's own");
    assert_eq!(vm.sh("ulimit -n").await, "1048576\n");
    let dev = vm.sh("ls /dev").await;
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(dev.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    assert_eq!(vm.sh("touch /sys/x 2>&1 || true").await, "touch: /sys/x: Read-only file system\n");
    let mounts = vm.sh("grep mimeo /proc/mounts").await;
    let (overlay, run_mimeo) = mounts.split_once('\n').expect("two lines");
    assert!(overlay.starts_with("overlay / overlay "), "its own options: {mounts}");
    assert!(run_mimeo.starts_with("tmpfs /run/mimeo tmpfs ro,nosuid,nodev,noexec,"), "{mounts}");
    assert_eq!(run_mimeo.lines().count(), 1, "{mounts}");
    assert_eq!(vm.sh("ls -a /run/mimeo").await, ".\n..\nenv\ngeneration\n");
    vm.sh("echo > /tmp/x; ln -s x /tmp/y; mkdir /new; chmod 700 /new").await;
    assert_eq!(
        vm.sh("grep Sig /proc/self/status | grep -v -e SigQ -e Shd")
            .await
            .split_whitespace()
            .filter(|word| word.len() == 16 && word.bytes().any(|byte| byte != b'0'))
            .count(),
        0,
        "no signal is blocked, ignored or pending"
    );
}

async fn the_machine_is_configured(vm: &Vm) {
    assert_eq!(vm.sh("hostname; cat /etc/hostname").await, "box\nbox\n");
    assert_eq!(vm.sh("cat /etc/resolv.conf").await, "search example.org\nnameserver 10.0.2.3\n");
    assert!(vm.sh("cat /etc/hosts").await.ends_with("10.0.2.15\tbox\n10.9.8.7\tdb\n"));
    let route = vm.sh("ip route").await;
    assert!(route.contains("default via 10.0.2.2 dev"), "{route}");
    let nic = vm.sh("ip addr").await;
    assert!(nic.contains("inet 10.0.2.15/24 brd 10.0.2.255") && nic.contains("mtu 1400"), "{nic}");
    assert!(nic.contains("inet 127.0.0.1/8"), "{nic}");
    assert_eq!(vm.sh("cat /etc/machine-id").await, format!("{}\n", "0".repeat(32)));
    assert_eq!(vm.sh("cat /run/mimeo/generation").await.len(), 37, "a UUID of the agent's own");
    let ids = vm.sh("cat /proc/sys/kernel/random/boot_id; cat /proc/sys/kernel/random/boot_id").await;
    let (first, second) = ids.trim_end().split_once('\n').expect("two lines");
    assert!(first == second && first.len() == 36, "{ids}");
    assert!(vm.sh("stat -c %Y /tmp/x").await.starts_with("18000000"), "the clock was set");
    assert_eq!(
        vm.request(Request::Configure(Box::new(configure(true)))).await,
        wrong_state("the machine is already configured")
    );
    vm.succeed(Request::SetClock { unix_nanos: 1_900_000_000_500_000_000 }).await;
    assert!(vm.sh("touch /tmp/z; stat -c %Y /tmp/z").await.starts_with("19000000"));
}

fn wrong_state(message: &str) -> Reply {
    let kind = FailureKind::WrongState;
    Reply::Failed(mimeo_agent_protocol::message::Failure { kind, message: message.into() })
}

async fn users_come_from_the_image(vm: &Vm) {
    let id = |user: &str| Process { user: user.into(), ..shell("id; echo $HOME") };
    let stdout_as = async |user: &str| vm.run(id(user)).await.stdout;
    assert_eq!(stdout_as("www").await, "uid=33(www) gid=34(www) groups=34(www),40(logs)\n/home/www\n");
    assert_eq!(stdout_as("1000:40").await, "uid=1000 gid=40(logs) groups=40(logs)\n/\n");
    assert_eq!(vm.refusal(id("nobody")).await.kind, FailureKind::UnknownUser);
    let caps = Process { user: "www".into(), ..shell("grep -E 'Cap(Eff|Prm|Amb)' /proc/self/status") };
    assert_eq!(
        vm.run(caps).await.stdout.matches("0000000000000000").count(),
        3,
        "no capability without root"
    );
    let secret = Process { user: "www".into(), ..shell("cat /etc/secret") };
    assert_eq!(vm.run(secret).await.status, ExitStatus::Code(1));
    let reopened = Process { user: "www".into(), ..shell("echo again > /dev/stdout") };
    assert_eq!(vm.run(reopened).await.stdout, "again\n");
}

async fn failed_commands_report_their_reason(vm: &Vm) {
    let refusal = async |program: &str| {
        let failure = vm.refusal(command(&[program])).await;
        (failure.kind, failure.message)
    };
    let missing = "executable file `nonesuch` not found in $PATH: No such file or directory";
    assert_eq!(refusal("nonesuch").await, (FailureKind::CommandNotFound, missing.into()));
    assert_eq!(refusal("/bin/nonesuch").await.0, FailureKind::CommandNotFound);
    let denied = "exec `/etc/passwd`: Permission denied";
    assert_eq!(refusal("/etc/passwd").await, (FailureKind::CommandNotExecutable, denied.into()));
    assert_eq!(refusal("/bin").await.0, FailureKind::CommandNotExecutable);
    let exec_format = "exec `garbage`: Exec format error";
    assert_eq!(refusal("garbage").await, (FailureKind::CommandNotExecutable, exec_format.into()));
    let missing_directory = Process { cwd: "/none".into(), ..shell("true") };
    assert_eq!(vm.refusal(missing_directory).await.message, "chdir to `/none`: No such file or directory");
    assert_eq!(vm.refusal(command(&[])).await.kind, FailureKind::Invalid);
    assert_eq!(
        vm.request(Request::Start(shell("true"))).await,
        wrong_state("the container has been started already")
    );
}

async fn exit_statuses_are_reported(vm: &Vm) {
    assert_eq!(vm.run(shell("exit 42")).await.status, ExitStatus::Code(42));
    assert_eq!(vm.run(shell("kill -9 $$")).await.status, ExitStatus::Signal(9));
    let sleeping = vm.exec(command(&["sleep", "1000"])).await.expect("runs");
    assert!(sleeping.pid > 1);
    sleeping.send(Input::Signal { signal: 2 });
    assert_eq!(sleeping.output().await.status, ExitStatus::Signal(2));
}

async fn streams_are_complete(vm: &Vm) {
    let output = vm.run(shell("echo out; echo err >&2; cat; yes | head -c 3000000 | wc -c")).await;
    let expected =
        Output { stdout: "out\n3000000\n".into(), stderr: "err\n".into(), status: ExitStatus::Code(0) };
    assert_eq!(output, expected);
    let flood = vm.run(shell("yes | head -c 3000000")).await;
    assert_eq!((flood.stdout.len(), flood.status), (3_000_000, ExitStatus::Code(0)));
    let many: Vec<_> = (0..20).map(|n| shell(&format!("echo {n}"))).collect();
    let mut running = Vec::new();
    for process in many {
        running.push(vm.exec(process).await.expect("runs"));
    }
    for (n, running) in running.into_iter().enumerate() {
        assert_eq!(running.output().await.stdout, format!("{n}\n"));
    }
}

async fn input_ends(vm: &Vm) {
    let cat = Process { stdin: true, ..shell("cat; echo end") };
    let running = vm.exec(cat).await.expect("runs");
    running.input(b"some ").await;
    running.input(b"words\n").await;
    running.input(b"").await;
    assert_eq!(running.output().await.stdout, "some words\nend\n");
    let not_reading = Process { stdin: true, ..shell("exec <&-; sleep 0.2; echo done") };
    let running = vm.exec(not_reading).await.expect("runs");
    running.input(&[b'x'; 200_000]).await;
    assert_eq!(running.output().await.stdout, "done\n");
    let stuck = vm.exec(Process { stdin: true, ..command(&["sleep", "1000"]) }).await.expect("runs");
    stuck.input(&[b'x'; 200_000]).await;
    stuck.send(Input::Signal { signal: 15 });
    assert_eq!(stuck.output().await.status, ExitStatus::Signal(15), "a signal overtakes what is not read");
}

async fn terminals_are_terminals(vm: &Vm) {
    let terminal = |script: &str| Process { terminal: Some(SIZE), stdin: true, ..shell(script) };
    let output = vm.run(terminal("tty; stty size; echo $TERM; echo err >&2")).await;
    assert_eq!(output.stdout, "/dev/pts/0\r\n24 80\r\nxterm\r\nerr\r\n");
    let mut running =
        vm.exec(terminal("trap 'stty size; exit 7' WINCH; echo ready; cat & wait")).await.expect("runs");
    running.wait_for_output("ready").await;
    running.send(Input::Resize(TerminalSize { rows: 50, cols: 132 }));
    let output = running.output().await;
    assert_eq!((output.stdout.as_str(), output.status), ("ready\r\n50 132\r\n", ExitStatus::Code(7)));
    let mut running = vm.exec(terminal("echo ready; exec sleep 1000")).await.expect("runs");
    running.wait_for_output("ready").await;
    running.input(b"\x03").await;
    assert_eq!(running.output().await.status, ExitStatus::Signal(2), "the terminal's own interrupt");
    let mut running = vm.exec(terminal("echo ready; exec sleep 999")).await.expect("runs");
    running.wait_for_output("ready").await;
    drop(running);
    pause_briefly().await;
    assert!(!vm.sh("ps").await.contains("sleep 999"), "the hang-up reaches it");
}

async fn daemons_do_not_delay_the_exit(vm: &Vm) {
    let output = vm.run(shell("sleep 998 & echo started")).await;
    assert_eq!(output.stdout, "started\n");
    let orphans = vm.sh("ps").await;
    assert!(orphans.contains("sleep 998"), "{orphans}");
    let abandoned = vm.exec(shell("sleep 0.1; echo gone; touch /tmp/finished")).await.expect("runs");
    drop(abandoned);
    pause_briefly().await;
    vm.sh("test -e /tmp/finished").await;
}

async fn the_machine_reports_metrics(vm: &Vm) {
    let Reply::Metrics(metrics) = vm.succeed(Request::Metrics).await else { panic!("metrics") };
    assert!(metrics.memory.total_bytes > 150 << 20 && metrics.memory.total_bytes < 256 << 20, "{metrics:?}");
    assert!(
        metrics.cpu.count == 1 && metrics.cpu.system_micros > 0 && metrics.uptime_seconds > 0.5,
        "{metrics:?}"
    );
    assert!(metrics.disk.total_bytes > 40 << 20 && metrics.disk_read_bytes > 0, "{metrics:?}");
    assert!(metrics.container_memory_bytes.is_some_and(|bytes| bytes > 0), "{metrics:?}");
    assert!(metrics.container_cpu_micros.is_some_and(|micros| micros > 0), "{metrics:?}");
    let Reply::Processes { processes } = vm.succeed(Request::Processes).await else { panic!("processes") };
    let first = processes.first().expect("a process");
    assert_eq!((first.pid, first.ppid, &*first.user, &*first.tty), (1, 0, "root", "?"));
    assert!(
        processes.iter().any(|process| process.command == "sleep 998" && process.ppid == 1),
        "{processes:?}"
    );
    assert_eq!(metrics.processes, processes.len() as u64);
}

async fn files_are_found(vm: &Vm) {
    let stat = async |path: &str| match vm.succeed(Request::Stat { path: path.into() }).await {
        Reply::Found { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(stat("/bin").await, Some(FileKind::Directory));
    assert_eq!(stat("/slash/slash/tmp/y").await, Some(FileKind::File));
    assert_eq!(stat("/dev/null").await, Some(FileKind::Other));
    assert_eq!(stat("/none").await, None);
    assert_eq!(stat("/modules").await, None);
    assert_eq!(stat("/etc/passwd/x").await, None);
}

async fn servers_are_probed(vm: &Vm) {
    let server =
        vm.exec(shell("printf 'HTTP/1.1 204 No Content\\r\\n\\r\\n' | nc -l -p 8080 -w 5 >/dev/null")).await;
    pause_briefly().await;
    let probe = |port: u16| Request::Probe { url: format!("http://127.0.0.1:{port}/x"), timeout_ms: 2000 };
    assert_eq!(vm.request(probe(8080)).await, Reply::Probed { status: 204 });
    let Reply::Failed(failure) = vm.request(probe(8081)).await else { panic!("no server listens there") };
    assert!(failure.message.starts_with("cannot connect to 127.0.0.1:8081: Connection refused"), "{failure}");
    drop(server);
}

async fn floods_do_not_block_other_streams(vm: &Vm) {
    let flood = vm.exec(command(&["yes"])).await.expect("runs");
    let other = vm.sh("echo between").await;
    assert_eq!(other, "between\n");
    flood.send(Input::Signal { signal: 9 });
    assert_eq!(flood.output().await.status, ExitStatus::Signal(9));
}

async fn an_oom_kill_is_reported(vm: &Vm) {
    // dd allocates a buffer larger than the memory, and touches all of it.
    let output = vm.run(shell("exec dd if=/dev/zero of=/dev/null bs=400M count=1")).await;
    assert!(matches!(output.status, ExitStatus::OutOfMemory | ExitStatus::Code(1)), "{output:?}");
}

async fn archives_are_complete(vm: &Vm) {
    vm.sh("mkdir -p /a/b; echo one > /a/b/f; ln /a/b/f /a/g; ln -s b/f /a/l; chown 33:34 /a/g; chmod 4751 /a/g; chmod 500 /a/b").await;
    vm.sh("dd if=/dev/zero of=/a/big bs=1M count=3; mkfifo /a/p; ln -s /a /link").await;
    let archive = vm.read_archive("/a", false).await.expect("reads");
    let names: Vec<_> = harness::names(&archive);
    assert_eq!(names, ["a", "a/b", "a/b/f", "a/big", "a/g", "a/l", "a/p"]);
    assert_eq!(vm.write_archive("/slash/tmp", &archive).await, Reply::Done);
    let script = "cd $0; stat -c '%A %u %g %h %s %n' a a/b a/b/f a/big a/g a/p; readlink a/l; cat a/l";
    let listing = async |directory: &str| vm.run(command(&["sh", "-c", script, directory])).await;
    let (original, unpacked) = (listing("/").await, listing("/tmp").await);
    assert!(original.stdout.contains("-rwsr-x--x 33 34 2 4 a/g"), "{original:?}");
    assert_eq!(original, unpacked);
    assert_eq!(harness::names(&vm.read_archive("/link", false).await.expect("reads")), ["link"]);
    assert_eq!(harness::names(&vm.read_archive("/link", true).await.expect("reads")).len(), 7);
    assert_eq!(vm.read_archive("/none", true).await.expect_err("none").kind, FailureKind::NotFound);
    let Reply::Failed(failure) = vm.write_archive("/none", &archive).await else {
        panic!("no such directory")
    };
    assert_eq!(failure.kind, FailureKind::NotFound);
}

#[tokio::test]
async fn a_read_only_root_works_and_the_init_reaps() {
    let vm = Vm::boot().await;
    vm.succeed(Request::Configure(Box::new(configure(false)))).await;
    let script =
        "echo > /x; (sleep 0.1 &); trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let process = Process { init: true, cwd: "/tmp".into(), ..shell(script) };
    let mut container = vm.start(process).await;
    container.wait_for_output("ready").await;
    assert_eq!(vm.sh("touch /y 2>&1 || true").await, "touch: /y: Read-only file system\n");
    vm.sh("echo > /dev/shm/x").await;
    pause_briefly().await;
    let Reply::Processes { processes } = vm.succeed(Request::Processes).await else { panic!("processes") };
    assert_eq!(processes[0].command, "/init");
    assert!(processes.iter().all(|process| process.state != "Z"), "{processes:?}");
    vm.succeed(Request::Signal { signal: 15 }).await;
    let output = container.output().await;
    assert_eq!((&*output.stdout, output.status), ("ready\ncaught\n", ExitStatus::Code(5)));
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
}

#[tokio::test]
async fn volumes_are_served_by_the_host() {
    let mut vm = Vm::configured().await;
    let share = Share::default();
    share.put("handshake", b"hello from the host\n");
    let volumes = [
        ("/srv/deep/data", None, false),
        ("/slash/etc/handshake", Some("handshake"), true),
        ("/srv/ro", None, true),
    ];
    for (target, file, read_only) in volumes {
        serve(&vm, &share, target, file, read_only).await;
    }
    let mut container = vm.start(shell("cat /etc/handshake; exec sleep 1000")).await;
    container.wait_for_output("hello from the host").await;
    assert_eq!(
        vm.sh("ls -n /srv/deep/data | grep handshake").await.split_whitespace().collect::<Vec<_>>()[2..4],
        ["0", "7"]
    );
    vm.sh("echo more >> /srv/deep/data/handshake").await;
    assert_eq!(share.get("handshake"), b"hello from the host\nmore\n");
    assert_eq!(share.callers(), [(1000, 100)], "the guest's root comes as the host's user");
    let refused = "touch: /srv/ro/x: Read-only file system\n";
    assert_eq!(vm.sh("touch /srv/ro/x 2>&1 || true").await, refused);
    assert_eq!(vm.sh("(echo x > /etc/handshake) 2>/dev/null || echo no").await, "no\n");
    assert_eq!(vm.request(Request::Shutdown).await, Reply::Done);
    vm.wait_for_exit().await;
    assert!(!vm.console().contains("unmount"), "{}", vm.console());
}
