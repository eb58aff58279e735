use mimeo_vmm::{Driver, LaunchError, Network, Tap};

use crate::fence::network;
use crate::harness::{Bench, chain, on_each, ticks};

on_each!(a_nic_uses_the_tap_device_in_its_namespace, a_missing_tap_device_is_named_and_not_created,);

fn nic(name: &str, namespace: &std::sync::Arc<std::os::fd::OwnedFd>) -> Option<Network> {
    let mac = "06:00:ac:10:00:02".to_owned();
    Some(Network::Tap(Tap { mac, name: name.to_owned(), namespace: namespace.clone(), queue: None }))
}

fn namespace(taps: &[&str]) -> Option<std::sync::Arc<std::os::fd::OwnedFd>> {
    let namespace = network(taps);
    if namespace.is_none() {
        eprintln!("NOT RUN with a network: this user may not create a network namespace");
    }
    namespace
}

async fn a_nic_uses_the_tap_device_in_its_namespace(bench: &Bench) {
    // The same name in both namespaces, and another one in the second.
    let (Some(first), Some(second)) = (namespace(&["mm0"]), namespace(&["mm0", "other"])) else { return };
    let mut spec = bench.spec("machine");
    spec.network = nic("mm0", &first);
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let saved = bench.save(machine.as_mut(), "saved", mimeo_vmm::SaveKind::Full).await;
    let mut clone_spec = bench.spec("clone");
    clone_spec.network = nic("mm0", &second);
    // The source still uses the device of that name in its own namespace.
    let mut clone = bench.restore(&clone_spec, &saved).await;
    clone.kill().await;
    let newer = machine.version().await.expect("known").split('.').nth(1).and_then(|word| word.parse().ok());
    machine.kill().await;
    if newer >= Some(12) {
        clone_spec.network = nic("other", &second);
        bench.restore(&clone_spec, &saved).await.kill().await;
    }
}

async fn a_missing_tap_device_is_named_and_not_created(bench: &Bench) {
    let Some(empty) = namespace(&[]) else { return };
    let mut spec = bench.spec("machine");
    spec.network = nic("mm0", &empty);
    for _ in 0..2 {
        let error = bench.driver.launch(&spec).await.expect_err("missing");
        assert!(matches!(error, LaunchError::Prepare { .. }), "{error:?}");
        assert!(chain(&error).contains("TAP device mm0"), "{}", chain(&error));
    }
}
