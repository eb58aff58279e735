//! Every failure of a copy's start: it is refused, and nothing is left.

use jiff::Timestamp;
use mimeo_agent_protocol::message::{IdentityStep, Step, StepOutcome};
use mimeo_engine::launch_request::{CloneOverrides, CloneRequest, HoldPolicy, SupervisorReport};
use mimeo_engine::snapshot::{Kind, SnapshotId};
use mimeo_engine::{Record, supervise_clone};
use serde_json::{Value, json};

use super::*;

/// A snapshot of a machine of the fake driver, as one would have been kept.
async fn kept(world: &World, change: impl FnOnce(&mut Value)) -> SnapshotId {
    // It ends soon after its container, as a machine that powers off does.
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
    let mut requires = serde_json::to_value(record.requires.clone().expect("kept")).expect("JSON");
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

/// What became of a copy: nothing is left of it.
async fn copied(world: &World, driver: Fake, snapshot: SnapshotId) -> Result<Exit, SupervisorError> {
    let engine = world.engine(driver);
    let overrides = CloneOverrides { remove: true, ..CloneOverrides::default() };
    let order = CloneRequest { snapshot, hold: HoldPolicy::Never, serve: None, pager: None, overrides };
    // Whoever asked stays.
    let (_asking, orders) = tokio::io::duplex(64);
    let orders = tokio::io::BufReader::new(orders);
    let mut told = Vec::new();
    let exit = supervise_clone(&engine, order, orders, |word| told.push(word.clone()), |_| {}).await;
    let ran = told.iter().any(|word| matches!(word, SupervisorReport::Running { .. }));
    assert_eq!(ran, exit.is_ok(), "{told:?}");
    world.assert_empty();
    exit
}

async fn refused(world: &World, driver: Fake, snapshot: SnapshotId) -> (Stage, String) {
    match copied(world, driver, snapshot).await {
        Err(SupervisorError::Start(error)) => (error.stage, error.source.to_string()),
        other => panic!("a refused copy, not {other:?}"),
    }
}

/// A guest that becomes a copy but for what `change` does to its lines, and
/// that tells in `thawed` when it was let go on.
fn copying(change: impl Fn(&mut Vec<IdentityStep>) + Clone + Send + Sync + 'static) -> Fake {
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
async fn each_step_of_the_identity_that_fails_is_the_end_of_its_copy() {
    let world = World::new();
    let snapshot = kept(&world, |_| {}).await;
    for (place, step) in Step::ALL.into_iter().enumerate() {
        for outcome in [StepOutcome::Failed, StepOutcome::NotTried, StepOutcome::Unknown] {
            let driver = copying(move |steps| {
                steps[place].outcome = outcome;
                steps[place].detail = Some("injected fault".to_owned());
            });
            let (stage, why) = refused(&world, driver, snapshot.clone()).await;
            assert_eq!(stage, Stage::Identify);
            assert_eq!(why, format!("identity step {}: injected fault", name(step)));
        }
        let silent = copying(move |steps| drop(steps.remove(place)));
        let (stage, why) = refused(&world, silent, snapshot.clone()).await;
        assert_eq!(stage, Stage::Identify);
        assert_eq!(why, format!("identity step {}: the guest did not report it", name(step)));
    }
}

#[tokio::test]
async fn a_guest_that_does_not_become_the_copy() {
    let world = World::new();
    let snapshot = kept(&world, |_| {}).await;
    for (what, expected) in [("refuses", "no room in it"), ("talks", "out of turn")] {
        let guest = guest(ExitStatus::Code(0), move |request| match (request, what) {
            (Request::Attach, _) => Some(Reply::Started { pid: 1 }),
            (Request::Identify(_), "refuses") => Some(Reply::Failed(Failure {
                kind: FailureKind::System,
                message: "no room in it".to_owned(),
            })),
            _ => None,
        });
        let (stage, why) = refused(&world, Fake::new(guest, Faults::default()), snapshot.clone()).await;
        assert!(stage == Stage::Identify && why.contains(expected), "{stage:?}: {why}");
    }
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let (stage, why) = refused(&world, Fake::new(good_guest(), faults), snapshot.clone()).await;
    assert!(stage == Stage::Boot && why.contains("1 s"), "{stage:?}: {why}");
    let faults =
        Faults { silent_guest: true, dies_after: Some(Duration::from_millis(50)), ..Faults::default() };
    let (stage, why) = refused(&world, Fake::new(good_guest(), faults), snapshot).await;
    assert!(stage == Stage::Boot && why.contains("injected fault"), "{stage:?}: {why}");
}

#[tokio::test]
async fn a_monitor_that_does_not_take_what_was_saved() {
    let world = World::new();
    let snapshot = kept(&world, |_| {}).await;
    for faults in [
        Faults { refuses_restore: true, ..Faults::default() },
        Faults { not_installed: true, ..Faults::default() },
    ] {
        let (stage, why) = refused(&world, Fake::new(good_guest(), faults), snapshot.clone()).await;
        assert_eq!(stage, Stage::Launch, "{why}");
    }
    let faults = Faults { refuses_pause: true, ..Faults::default() };
    let (stage, why) = refused(&world, Fake::new(good_guest(), faults), snapshot).await;
    assert!(stage == Stage::Boot && why.contains("cont"), "{stage:?}: {why}");
}

#[tokio::test]
async fn what_cannot_run_here_is_refused_before_a_monitor_is_started() {
    let cases: [(&str, Value, &str); 7] = [
        ("/format", json!(999), "has format 999, this mimeo knows 1"),
        ("/requires/driver", json!("other"), "there is no driver \"other\""),
        ("/requires/shape", json!("fake 2 512"), "the snapshot needs devices and settings 2, here is 1"),
        ("/requires/cpu", json!("another"), "the snapshot needs the processor another"),
        ("/requires/protocol", json!(999), "the snapshot needs an agent of protocol 999"),
        ("/kind", json!("runtime"), "this is a runtime snapshot"),
        ("/files/0/bytes", json!(5), "state is damaged"),
    ];
    for (pointer, value, expected) in cases {
        let world = World::new();
        let change = |manifest: &mut Value| *manifest.pointer_mut(pointer).expect("there") = value.clone();
        let snapshot = kept(&world, change).await;
        let driver = copying(|_| {});
        let (_, why) = refused(&world, driver.clone(), snapshot).await;
        assert!(why.contains(expected), "{pointer}: {why}");
        assert_eq!(driver.launched().len(), 0, "{pointer}");
    }
    let world = World::new();
    let snapshot = kept(&world, |manifest| manifest["requires"]["version"] = "0.9".into()).await;
    let (_, why) = refused(&world, copying(|_| {}), snapshot).await;
    assert_eq!(why, "the snapshot needs the monitor's version 0.9, here is 1.0");
}

#[tokio::test]
async fn who_asked_and_went_gets_no_copy() {
    let world = World::new();
    let snapshot = kept(&world, |_| {}).await;
    let faults = Faults { silent_guest: true, ..Faults::default() };
    let engine = world.engine(Fake::new(good_guest(), faults));
    let order = CloneRequest {
        snapshot,
        hold: HoldPolicy::Never,
        serve: None,
        pager: None,
        overrides: CloneOverrides::default(),
    };
    let outcome = supervise_clone(&engine, order, tokio::io::empty(), |_| {}, |_| {}).await;
    assert!(matches!(outcome, Err(SupervisorError::GivenUp)), "{outcome:?}");
    world.assert_empty();
}
