//! Failures of a clone's start: each is reported, and leaves nothing behind.

use jiff::Timestamp;
use mimeo_agent_protocol::message::{IdentityStep, Step, StepOutcome};
use mimeo_engine::launch_request::{CloneOverrides, CloneRequest, HoldPolicy, SupervisorReport};
use mimeo_engine::snapshot::{Kind, SnapshotId};
use mimeo_engine::{Record, supervise_clone};
use serde_json::{Value, json};

use super::*;

/// Writes a snapshot of a machine of the fake driver, in the format of a real one.
async fn write_snapshot(world: &World, change: impl FnOnce(&mut Value)) -> SnapshotId {
    // The VMM exits soon after its container, as if the guest had powered off.
    let faults = Faults { dies_after: Some(Duration::from_millis(300)), ..Faults::default() };
    let engine = world.engine(Fake::new(good_guest(), faults));
    run(&engine, MachineSpec { remove: false, ..spec() }).await.expect("it runs to its end");
    let machine =
        fs::read_dir(world.home.machines()).expect("readable").flatten().next().expect("one").path();
    let record: Record =
        serde_json::from_slice(&fs::read(machine.join("machine.json")).expect("read")).expect("a record");
    let id = SnapshotId::random();
    let dir = world.home.snapshots().join(id.short());
    fs::create_dir(&dir).expect("a directory");
    fs::rename(machine.join("disk-0"), dir.join("disk-0")).expect("renamed");
    fs::remove_dir_all(machine).expect("removed");
    for file in ["state", "memory"] {
        fs::write(dir.join(file), "fake").expect("written");
    }
    let mut requires = serde_json::to_value(record.requires.clone().expect("requirements")).expect("JSON");
    requires["version"] = "1.0".into();
    let mut manifest = json!({
        "format": 1, "id": id, "tag": null, "kind": Kind::Snapshot, "created": Timestamp::now(), "parent": null,
        "machine": record, "requires": requires, "disk_layers": 1, "memory_bytes": 4, "boot_id": std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot").trim(),
        "pause_micros": 1,
        "files": [{ "name": "state", "bytes": 4, "blake3": null }],
    });
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).expect("JSON");
    fs::write(dir.join("manifest.blake3"), blake3::hash(&bytes).to_hex().as_str()).expect("written");
    fs::write(dir.join("manifest.json"), bytes).expect("written");
    id
}

/// Starts a clone, returns its outcome, and asserts that nothing is left of it.
async fn start_clone(world: &World, driver: Fake, snapshot: SnapshotId) -> Result<Exit, SupervisorError> {
    let engine = world.engine(driver);
    let overrides = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let request = CloneRequest { snapshot, hold: HoldPolicy::Never, serve: None, pager: None, overrides };
    // The client stays connected.
    let (_client, lines) = tokio::io::duplex(64);
    let lines = tokio::io::BufReader::new(lines);
    let mut reports = Vec::new();
    let exit = supervise_clone(&engine, request, lines, |report| reports.push(report.clone()), |_| {}).await;
    let ran = reports.iter().any(|report| matches!(report, SupervisorReport::Running { .. }));
    assert_eq!(ran, exit.is_ok(), "{reports:?}");
    world.assert_empty();
    exit
}

async fn clone_failure(world: &World, driver: Fake, snapshot: SnapshotId) -> (Stage, String) {
    match start_clone(world, driver, snapshot).await {
        Err(SupervisorError::Start(error)) => (error.stage, error.source.to_string()),
        other => panic!("a failed start, not {other:?}"),
    }
}

/// A driver whose guest reports all identity steps as done, except for what `change` does to them.
fn cloning_driver(change: impl Fn(&mut Vec<IdentityStep>) + Clone + Send + Sync + 'static) -> Fake {
    let guest = guest(ExitStatus::Code(0), move |request| match request {
        Request::Attach => Some(Reply::Started { pid: 1 }),
        Request::Identify(_) => {
            let report = |step| IdentityStep { step, outcome: StepOutcome::Done, detail: None };
            let mut steps = Step::ALL.map(report).to_vec();
            change(&mut steps);
            Some(Reply::Identified { steps })
        }
        _ => None,
    });
    Fake::new(guest, Faults::default())
}

fn name(step: Step) -> String {
    serde_json::to_value(step).expect("JSON").as_str().expect("a name").to_owned()
}

#[tokio::test]
async fn a_failed_identity_step_ends_the_clone() {
    let world = World::new();
    let snapshot = write_snapshot(&world, |_| {}).await;
    for (index, step) in Step::ALL.into_iter().enumerate() {
        for outcome in [StepOutcome::Failed, StepOutcome::NotTried, StepOutcome::Unknown] {
            let driver = cloning_driver(move |steps| {
                steps[index].outcome = outcome;
                steps[index].detail = Some("injected fault".to_owned());
            });
            let (stage, message) = clone_failure(&world, driver, snapshot.clone()).await;
            assert_eq!(stage, Stage::Identify);
            assert_eq!(message, format!("identity step {}: injected fault", name(step)));
        }
        let incomplete = cloning_driver(move |steps| drop(steps.remove(index)));
        let (stage, message) = clone_failure(&world, incomplete, snapshot.clone()).await;
        assert_eq!(stage, Stage::Identify);
        assert_eq!(message, format!("identity step {}: the guest did not report it", name(step)));
    }
}

#[tokio::test]
async fn a_guest_without_an_identity_reply_ends_the_clone() {
    let world = World::new();
    let snapshot = write_snapshot(&world, |_| {}).await;
    for (guest_kind, expected) in [("refuses", "no space in it"), ("other reply", "unexpected reply")] {
        let guest = guest(ExitStatus::Code(0), move |request| match (request, guest_kind) {
            (Request::Attach, _) => Some(Reply::Started { pid: 1 }),
            (Request::Identify(_), "refuses") => Some(Reply::Failed(Failure {
                kind: FailureKind::System,
                message: "no space in it".to_owned(),
            })),
            _ => None,
        });
        let (stage, message) =
            clone_failure(&world, Fake::new(guest, Faults::default()), snapshot.clone()).await;
        assert!(stage == Stage::Identify && message.contains(expected), "{stage:?}: {message}");
    }
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let (stage, message) = clone_failure(&world, Fake::new(good_guest(), faults), snapshot.clone()).await;
    assert!(stage == Stage::Boot && message.contains("1 s"), "{stage:?}: {message}");
    let faults =
        Faults { silent_guest: true, dies_after: Some(Duration::from_millis(50)), ..Faults::default() };
    let (stage, message) = clone_failure(&world, Fake::new(good_guest(), faults), snapshot).await;
    assert!(stage == Stage::Boot && message.contains("injected fault"), "{stage:?}: {message}");
}

#[tokio::test]
async fn a_vmm_that_refuses_the_saved_state_ends_the_clone() {
    let world = World::new();
    let snapshot = write_snapshot(&world, |_| {}).await;
    for faults in [
        Faults { refuses_restore: true, ..Faults::default() },
        Faults { not_installed: true, ..Faults::default() },
    ] {
        let (stage, message) = clone_failure(&world, Fake::new(good_guest(), faults), snapshot.clone()).await;
        assert_eq!(stage, Stage::Launch, "{message}");
    }
    let faults = Faults { refuses_pause: true, ..Faults::default() };
    let (stage, message) = clone_failure(&world, Fake::new(good_guest(), faults), snapshot).await;
    assert!(stage == Stage::Boot && message.contains("cont"), "{stage:?}: {message}");
}

#[tokio::test]
async fn an_incompatible_snapshot_is_refused_before_a_vmm_is_started() {
    let cases: [(&str, Value, &str); 7] = [
        ("/format", json!(999), "has format 999, this mimeo knows 3"),
        ("/requires/driver", json!("other"), "there is no driver \"other\""),
        (
            "/requires/shape",
            json!("fake 2 512"),
            "the snapshot needs devices and settings 2, this host has 1",
        ),
        ("/requires/cpu", json!("another"), "the snapshot needs the processor another"),
        ("/requires/protocol", json!(999), "the snapshot needs an agent of protocol 999"),
        ("/kind", json!("runtime"), "this is a boot snapshot"),
        ("/files/0/bytes", json!(5), "state is damaged"),
    ];
    for (pointer, value, expected) in cases {
        let world = World::new();
        let change = |manifest: &mut Value| *manifest.pointer_mut(pointer).expect("there") = value.clone();
        let snapshot = write_snapshot(&world, change).await;
        let driver = cloning_driver(|_| {});
        let (_, message) = clone_failure(&world, driver.clone(), snapshot).await;
        assert!(message.contains(expected), "{pointer}: {message}");
        assert_eq!(driver.launched().len(), 0, "{pointer}");
    }
    let world = World::new();
    let snapshot = write_snapshot(&world, |manifest| manifest["requires"]["version"] = "0.9".into()).await;
    let (_, message) = clone_failure(&world, cloning_driver(|_| {}), snapshot).await;
    assert_eq!(message, "the snapshot needs the VMM's version 0.9, this host has 1.0");
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_the_clone() {
    let world = World::new();
    let snapshot = write_snapshot(&world, |_| {}).await;
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let engine = world.engine(Fake::new(good_guest(), faults));
    let request = CloneRequest {
        snapshot,
        hold: HoldPolicy::Never,
        serve: None,
        pager: None,
        overrides: CloneOverrides::default(),
    };
    let outcome = supervise_clone(&engine, request, tokio::io::empty(), |_| {}, |_| {}).await;
    assert!(matches!(outcome, Err(SupervisorError::Cancelled)), "{outcome:?}");
    world.assert_empty();
}
