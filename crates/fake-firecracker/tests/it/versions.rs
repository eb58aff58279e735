use mimeo_fake_firecracker::settings::Settings;
use mimeo_vmm::firecracker::api::{
    Api, ApiError, Balloon, LoadHugePages, LoadSnapshot, MemoryBackend, NetworkOverride,
};
use mimeo_vmm::firecracker::version::Version;
use mimeo_vmm::{Driver, LaunchError, OperationError, SaveKind};

use crate::harness::{Bench, on_the_fake, ticks};

on_the_fake!(
    a_version_that_is_too_old_is_refused,
    each_version_boots_saves_and_loads,
    a_diff_in_an_old_version_needs_tracking,
    unsupported_fields_are_not_sent,
    a_state_of_another_version_is_refused,
    a_shape_covers_all_that_a_state_depends_on,
);

fn settings(version: &str) -> Settings {
    Settings { version: version.to_owned(), ..Settings::default() }
}

async fn a_version_that_is_too_old_is_refused(bench: &Bench) {
    let error = bench
        .driver
        .launch(&bench.spec_with_settings("machine", &settings("1.9.1")))
        .await
        .expect_err("too old");
    let LaunchError::Operation(OperationError::TooOld { found, needed, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((found.as_str(), needed.as_str()), ("1.9.1", "1.10.0"));
    assert_eq!(error.to_string(), "firecracker 1.9.1 cannot be used: version 1.10.0 or later is needed");
}

async fn each_version_boots_saves_and_loads(bench: &Bench) {
    for number in ["1.10.1", "1.11.0", "1.12.1", "1.13.0", "1.14.0", "1.15.1", "1.16.1", "1.17.0-dev"] {
        let settings = settings(number);
        let spec = bench.spec_with_settings(&format!("source-{number}"), &settings);
        let mut machine = bench.launch(&spec).await;
        assert_eq!(machine.version().await.expect("known"), number);
        ticks(&spec, 1).await;
        let saved = bench.save(machine.as_mut(), &format!("saved-{number}"), SaveKind::Full).await;
        machine.kill().await;
        let clone = bench.spec_with_settings(&format!("clone-{number}"), &settings);
        bench.restore(&clone, &saved).await.kill().await;
    }
}

async fn a_diff_in_an_old_version_needs_tracking(bench: &Bench) {
    for (number, untracked) in [("1.10.1", false), ("1.12.0", false), ("1.13.0", true)] {
        let settings = settings(number);
        let mut machine =
            bench.launch(&bench.spec_with_settings(&format!("plain-{number}"), &settings)).await;
        machine.pause().await.expect("pauses");
        let (state, memory) = (bench.path("state"), bench.path("memory"));
        let saved = machine.save(&state, &memory, SaveKind::Diff).await;
        assert_eq!(saved.is_ok(), untracked, "{number}: {saved:?}");
        machine.kill().await;
        // With tracking it works, also after a load, where the field has another name.
        let tracking = bench.driver.clone().tracking_writes();
        let spec = bench.spec_with_settings(&format!("tracked-{number}"), &settings);
        let mut machine = bench.track(tracking.launch(&spec).await.expect("starts"));
        let saved = bench.save(machine.as_mut(), &format!("saved-{number}"), SaveKind::Full).await;
        machine.kill().await;
        let clone = bench.spec_with_settings(&format!("clone-{number}"), &settings);
        let mut clone = bench.track(tracking.restore(&clone, &saved).await.expect("starts"));
        bench.save(clone.as_mut(), &format!("diff-{number}"), SaveKind::Diff).await;
        clone.kill().await;
    }
}

async fn unsupported_fields_are_not_sent(bench: &Bench) {
    if bench.jailed == crate::harness::Jailed::Yes {
        return;
    }
    let mut machine = bench.launch(&bench.spec_with_settings("machine", &settings("1.11.0"))).await;
    let api = Api::connect(&bench.path("machine"), "vmm.sock").await.expect("answers");
    assert_eq!(api.version(), Version::new(1, 11, 0));
    let load = LoadSnapshot {
        snapshot_path: "state".to_owned(),
        memory: MemoryBackend::File("memory".to_owned()),
        track_dirty_pages: false,
        resume_vm: false,
        network_overrides: Vec::new(),
        vsock_override: None,
        clock_realtime: false,
        huge_pages: LoadHugePages::Snapshot,
    };
    let overrides = vec![NetworkOverride { iface_id: "eth0".into(), host_dev_name: "mm1".into() }];
    let unsupported = [
        ("1.12.0", LoadSnapshot { network_overrides: overrides, ..load.clone() }),
        ("1.16.0", LoadSnapshot { vsock_override: Some("other.sock".into()), ..load.clone() }),
        ("1.16.0", LoadSnapshot { clock_realtime: true, ..load.clone() }),
        ("1.17.0", LoadSnapshot { huge_pages: LoadHugePages::Override(Default::default()), ..load.clone() }),
    ];
    for (first, load) in unsupported {
        match api.load_snapshot(&load).await {
            Err(ApiError::TooOld { needed, found, .. }) => {
                assert_eq!((needed.to_string().as_str(), found.as_str()), (first, "1.11.0"));
            }
            other => panic!("{other:?}"),
        }
    }
    let balloon = Balloon { free_page_hinting: true, ..Balloon::default() };
    assert!(matches!(api.set_balloon(&balloon).await, Err(ApiError::TooOld { .. })));
    machine.kill().await;
}

async fn a_state_of_another_version_is_refused(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let error = bench.not_restored(&bench.spec_with_settings("clone", &settings("1.16.1")), &saved).await;
    assert!(error.to_string().contains("Invalid data version: 11.0.0"), "{error}");
}

async fn a_shape_covers_all_that_a_state_depends_on(bench: &Bench) {
    let spec = bench.spec("one");
    let shape = bench.driver.shape(&spec);
    assert!(shape.contains("v11.0.0"), "the format of states: {shape}");
    assert_eq!(shape, bench.driver.shape(&bench.spec("two")), "other files, the same shape");
    let mut others = vec![spec.clone(); 4];
    others[0].cpus = 2;
    others[1].memory_mib += 1;
    others[2].disks.swap(0, 1);
    others[3].disks.pop();
    for other in others {
        assert_ne!(shape, bench.driver.shape(&other));
    }
    assert!(bench.driver.program().is_some_and(|program| program.contains("fake-firecracker")));
    let missing = mimeo_vmm::firecracker::Firecracker::new("/nowhere/firecracker");
    assert!(missing.program().is_none() && missing.shape(&spec).contains("unknown"));
}
