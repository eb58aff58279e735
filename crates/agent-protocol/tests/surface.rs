//! Pins the wire format: `surface.json` holds one of each message.
//!
//! When this test fails, the wire format has changed. If an older agent or host
//! can still read it (a field was added whose absence means the old behaviour), run
//! `UPDATE_SURFACE=1 cargo test -p mimeo-agent-protocol --test surface` and
//! commit the file. Otherwise raise `PROTOCOL` too, and announce it in CHANGELOG.md.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use mimeo_agent_protocol::frame::{Frame, Kind, PREAMBLE};
use mimeo_agent_protocol::link::Hello;
use mimeo_agent_protocol::message::{
    Address, Address6, ChangesFormat, ClockMark, Configure, ContainerSetup, Disk, DiskVolume, ExitStatus,
    Failure, FailureKind, FileInfo, FileKind, FileType, Identity, IdentityStep, Input, Interface, NewFile,
    Privileges, Process, ProcessInfo, Reply, Request, Resource, ResourceLimit, Step, StepOutcome, System,
    TerminalSize, Tmpfs, Volume,
};
use mimeo_agent_protocol::{Capabilities, PROTOCOL};
use serde_json::{Value, json};

const VM_GENERATION: &str = "0198a1b2-0000-4000-8000-0123456789ab";
const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

fn process() -> Process {
    Process {
        args: vec!["sh".into()],
        env: BTreeMap::from([("A".into(), "b".into())]),
        cwd: "/".into(),
        user: "root".into(),
        terminal: Some(SIZE),
        stdin: true,
        init: false,
        aside: false,
        privileges: Some(privileges()),
        privileged: true,
    }
}

fn privileges() -> Privileges {
    let set = |name| Capabilities::parse(name).expect("a capability");
    Privileges {
        bounding: set("chown").union(set("kill")),
        ambient: set("kill"),
        no_new_privileges: true,
        whole_guest: false,
        groups: vec!["extra".into()],
        limits: vec![ResourceLimit {
            resource: Resource::Nofile,
            soft: 1024,
            hard: ResourceLimit::UNLIMITED,
        }],
        umask: Some(0o27),
        oom_score_adj: Some(-5),
    }
}

fn setup() -> ContainerSetup {
    ContainerSetup {
        cpu_quota_micros: Some(50_000),
        pids_limit: Some(100),
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".into(), "1".into())]),
        default_sysctls: BTreeMap::from([("net.ipv4.ping_group_range".into(), "0 1".into())]),
        read_only: true,
        tmpfs: vec![Tmpfs {
            target: "/tmp".into(),
            options: "size=1m".into(),
            copy_up: true,
            ..Tmpfs::default()
        }],
        shm_bytes: Some(1 << 20),
        local_time: Some("545a6966".into()),
        whole_guest: true,
        no_hosts: true,
    }
}

fn configure() -> Configure {
    let disk = |serial: &str| Disk { serial: serial.into(), filesystem: "ext4".into(), position: Some(1) };
    Configure {
        machine: "ab".repeat(32),
        hostname: "box".into(),
        unix_nanos: 1,
        interface: Some(interface()),
        dns: vec!["10.201.0.5".into()],
        dns_search: vec!["example.org".into()],
        dns_options: vec!["ndots:2".into()],
        hosts: BTreeMap::from([("db".into(), "192.0.2.7".into())]),
        image: disk("image"),
        writable: Some(disk("writable")),
        vm_generation: Some(VM_GENERATION.into()),
        entropy: Some("cd".repeat(32)),
        env: BTreeMap::from([("A".into(), "b".into())]),
        setup: setup(),
        system: Some(System { partition: Some(1) }),
    }
}

fn interface() -> Interface {
    Interface {
        mac: "02:00:00:00:00:01".into(),
        address: Address { ip: [10, 201, 0, 2].into(), prefix: 30 },
        gateway: [10, 201, 0, 1].into(),
        mtu: 1500,
        ipv6: Some(Address6 {
            ip: "fd6d:696d:656f:1::2".parse().expect("an address"),
            prefix: 64,
            gateway: "fd6d:696d:656f:1::1".parse().expect("an address"),
        }),
    }
}

fn identity() -> Identity {
    Identity {
        vm_generation: VM_GENERATION.into(),
        machine: "ab".repeat(32),
        hostname: "box".into(),
        unix_nanos: 1,
        entropy: "cd".repeat(32),
        interface: Some(interface()),
        dns: vec!["10.201.0.5".into()],
        dns_search: vec!["example.org".into()],
        dns_options: vec!["ndots:2".into()],
        hosts: BTreeMap::from([("db".into(), "192.0.2.7".into())]),
        env: BTreeMap::from([("A".into(), "b".into())]),
        signal: Some(12),
        thaw: true,
        warm_up: false,
    }
}

/// Every step, and every outcome.
fn steps() -> Vec<IdentityStep> {
    let outcomes = [StepOutcome::Done, StepOutcome::NotNeeded, StepOutcome::Failed, StepOutcome::NotTried];
    let steps = Step::ALL.into_iter().zip(outcomes.into_iter().cycle());
    steps.map(|(step, outcome)| IdentityStep { step, outcome, detail: Some("why".into()) }).collect()
}

fn new_file() -> NewFile {
    NewFile { path: "/a".into(), mode: Some(0o640), uid: Some(1), gid: Some(2), parents: true }
}

fn file_info(kind: FileType) -> FileInfo {
    let target = (kind == FileType::Symlink).then(|| "b".into());
    let name = "a".into();
    FileInfo { name, kind, size: 3, mode: 0o644, uid: 1, gid: 2, modified_nanos: -1, target }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Configure(Box::new(configure())),
        Request::Volume(Volume {
            target: "/data".into(),
            read_only: true,
            file: Some("one".into()),
            owner_uid: 1000,
            owner_gid: 1000,
        }),
        Request::DiskVolume(DiskVolume {
            target: "/data".into(),
            disk: Some(Disk { serial: "volume-0".into(), filesystem: "ext4".into(), position: Some(2) }),
            read_only: true,
            no_exec: true,
            suid: true,
            dev: true,
            copy_up: true,
            user: "nobody".into(),
        }),
        Request::Start(process()),
        Request::Exec(process()),
        Request::Signal { signal: 15 },
        Request::Metrics,
        Request::Processes,
        Request::Probe { url: "http://127.0.0.1/".into(), timeout_ms: 1 },
        Request::ReadArchive { path: "/a".into(), follow: true, content: false },
        Request::ReadRoot,
        Request::ReadChanges { format: ChangesFormat::List },
        Request::ReadChanges { format: ChangesFormat::Layer },
        Request::WriteArchive { directory: "/a".into() },
        Request::Stat { path: "/a".into() },
        Request::StatFile { path: "/a".into(), follow: true },
        Request::ListDirectory { path: "/a".into(), after: Some("62".into()), limit: 100 },
        Request::ReadFile { path: "/a".into() },
        Request::WriteFile(new_file()),
        Request::MakeDirectory(NewFile { path: "/a".into(), ..NewFile::default() }),
        Request::RemovePath { path: "/a".into(), recursive: true },
        Request::SetClock { unix_nanos: 1 },
        Request::Attach,
        Request::Prepare,
        Request::Freeze,
        Request::Clock,
        Request::Thaw {
            unix_nanos: Some(1),
            advance_nanos: 2,
            since: Some(ClockMark { guest_nanos: 3, elapsed_nanos: 4 }),
        },
        Request::Identify(Box::new(identity())),
        Request::Reset,
        Request::Shutdown,
    ]
}

fn replies() -> Vec<Reply> {
    let failure = |kind| Reply::Failed(Failure { kind, message: "why".into() });
    vec![
        Reply::Done,
        failure(FailureKind::CommandNotFound),
        failure(FailureKind::CommandNotExecutable),
        failure(FailureKind::UnknownUser),
        failure(FailureKind::NotFound),
        failure(FailureKind::WrongState),
        failure(FailureKind::NotADirectory),
        failure(FailureKind::IsADirectory),
        failure(FailureKind::Exists),
        failure(FailureKind::NotEmpty),
        failure(FailureKind::Forbidden),
        failure(FailureKind::Busy),
        failure(FailureKind::NoSpace),
        Reply::File(file_info(FileType::File)),
        Reply::Files { files: vec![file_info(FileType::Symlink)], next: Some("61".into()) },
        failure(FailureKind::Invalid),
        failure(FailureKind::System),
        Reply::Started { pid: 1 },
        Reply::Exited { status: ExitStatus::Code(0) },
        Reply::Exited { status: ExitStatus::Signal(9) },
        Reply::Exited { status: ExitStatus::OutOfMemory },
        Reply::Frozen {},
        Reply::Identified { steps: steps() },
        Reply::Metrics(Box::default()),
        Reply::Processes { processes: vec![ProcessInfo::default()] },
        Reply::Probed { status: 200 },
        Reply::Found { kind: Some(FileKind::Directory), target: None },
        Reply::Found { kind: None, target: Some("/b".into()) },
    ]
}

fn surface() -> Value {
    let frame =
        Frame { session: 1, stream: 2, kind: Kind::Data, channel: 3, payload: Bytes::from_static(b"four") };
    json!({
        "protocol": PROTOCOL,
        "preamble": PREAMBLE,
        "header": frame.header(),
        "hello": Hello { protocol: PROTOCOL, session: 1, name: "mimeo".into() },
        "requests": requests(),
        "inputs": [Input::Resize(SIZE), Input::Signal { signal: 2 }],
        "replies": replies(),
    })
}

#[test]
fn the_wire_is_unchanged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/surface.json");
    let current = serde_json::to_string_pretty(&surface()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_SURFACE").is_some() {
        std::fs::write(&path, &current).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == committed, "the wire has changed: read the top of {}", file!());
}

#[test]
fn later_additions_are_accepted() {
    let mut reply = serde_json::to_value(Reply::Started { pid: 1 }).expect("JSON");
    reply["of_a_later_version"] = json!(1);
    assert!(serde_json::from_value::<Reply>(reply).is_ok());
    let failure = json!({ "reply": "failed", "kind": "of_a_later_version", "message": "why" });
    let Ok(Reply::Failed(failure)) = serde_json::from_value(failure) else { panic!("a failure") };
    assert_eq!(failure.kind, FailureKind::Unknown);
    let step = json!({ "line": "of_a_later_version", "outcome": "of_a_later_version" });
    let step: IdentityStep = serde_json::from_value(step).expect("a step");
    assert_eq!((step.step, step.outcome), (Step::Unknown, StepOutcome::Unknown));
    assert!(serde_json::from_value::<Reply>(json!({ "reply": "frozen", "of_a_later_version": 1 })).is_ok());
}
