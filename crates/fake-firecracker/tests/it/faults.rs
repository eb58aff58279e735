use std::fs;

use mimeo_fake_firecracker::guest;
use mimeo_fake_firecracker::settings::{ExitAt, Settings};
use mimeo_vmm::firecracker::Firecracker;
use mimeo_vmm::{
    Accelerator, DiskFormat, Driver, LaunchError, LaunchSpec, Network, OperationError, RestoreError,
    UserNetwork, VmExit,
};

use crate::harness::{Bench, Implementation, Jailed, on_each, on_the_fake, ticks};

on_the_fake!(
    an_exit_at_any_stage_reports_its_reason,
    an_exit_while_loading_reports_its_reason,
    an_exit_while_running_reports_its_reason,
);
on_each!(
    unsupported_specs_are_refused_before_the_start,
    a_missing_program_is_named,
    a_missing_file_is_named,
    a_fault_message_is_passed_on,
    a_killed_process_is_reported,
    a_guest_reset_is_off,
    a_dropped_machine_is_killed,
    operations_of_other_drivers_are_unsupported,
);

fn exit_at(when: &str) -> Settings {
    let message = "the last log line\nthe last stderr line".to_owned();
    Settings { exit_at: Some(ExitAt { when: when.to_owned(), message, code: 7 }), ..Settings::default() }
}

async fn an_exit_at_any_stage_reports_its_reason(bench: &Bench) {
    let stages = [
        "start",
        "listen",
        "GET /version",
        "PUT /machine-config",
        "PUT /boot-source",
        "PUT /drives/drive1",
        "PUT /vsock",
        "PUT /entropy",
        "PUT /balloon",
        "PUT /actions",
    ];
    for stage in stages {
        let error = bench
            .driver
            .launch(&bench.spec_with_settings("machine", &exit_at(stage)))
            .await
            .expect_err("ended");
        let (LaunchError::Ended { how, .. } | LaunchError::Guest { how }) = &error else {
            panic!("{stage}: {error:?}")
        };
        let is_guests = matches!(error, LaunchError::Guest { .. });
        assert_eq!(is_guests, stage == "PUT /actions", "from its start on, the guest is to blame");
        assert!(how.contains("the last log line"), "{stage}: {how}");
        assert!(how.contains("the last stderr line"), "{stage}: {how}");
        assert!(how.contains("exit status: 7"), "{stage}: {how}");
    }
}

async fn an_exit_while_loading_reports_its_reason(bench: &Bench) {
    let (saved, _) = bench.saved("source").await;
    let error =
        bench.not_restored(&bench.spec_with_settings("clone", &exit_at("PUT /snapshot/load")), &saved).await;
    let RestoreError::Ended { how } = &error else { panic!("{error:?}") };
    assert!(how.contains("the last log line") && how.contains("exit status: 7"), "{how}");
}

async fn an_exit_while_running_reports_its_reason(bench: &Bench) {
    let spec = bench.spec_with_settings("machine", &exit_at("PATCH /vm"));
    let mut machine = bench.launch(&spec).await;
    assert!(matches!(machine.pause().await, Err(OperationError::Gone)));
    let VmExit::Failed { status, stderr } = machine.wait().await else { panic!("it failed") };
    assert_eq!(status, "exit status: 7");
    assert!(stderr.ends_with("the last log line; the last stderr line"), "{stderr}");
    // A second wait returns the same.
    assert!(matches!(machine.wait().await, VmExit::Failed { .. }));
}

async fn unsupported_specs_are_refused_before_the_start(bench: &Bench) {
    let spec = bench.spec("machine");
    let user = Network::User(UserNetwork {
        mac: "06:00:00:00:00:01".to_owned(),
        network: [10, 0, 0, 0].into(),
        prefix: 24,
        gateway: [10, 0, 0, 1].into(),
        guest: [10, 0, 0, 2].into(),
        dns: [10, 0, 0, 3].into(),
        forwards: Vec::new(),
    });
    let mut layered = spec.clone();
    layered.disks[1].format = DiskFormat::Qcow2;
    let without_directory = LaunchSpec { disks: Vec::new(), console: "console.log".into(), ..spec.clone() };
    let cases = [
        (LaunchSpec { accelerator: Accelerator::Tcg, ..spec.clone() }, "without KVM"),
        (LaunchSpec { network: Some(user), ..spec.clone() }, "TAP device"),
        (layered, "qcow2"),
        (without_directory, "directory of its own"),
    ];
    for (spec, why) in cases {
        let error = bench.driver.launch(&spec).await.expect_err("refused");
        assert!(matches!(error, LaunchError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(fs::read_dir(bench.path("machine")).expect("read").count(), 1, "only its disk is there");
}

async fn a_missing_program_is_named(bench: &Bench) {
    let spec = bench.spec("machine");
    let missing = Firecracker::new("/nowhere/firecracker").launch(&spec).await.expect_err("missing");
    assert!(matches!(&missing, LaunchError::NotInstalled { program } if program == "/nowhere/firecracker"));
    if bench.jailed == Jailed::Yes {
        fs::copy(&bench.program, bench.path("firecracker")).expect("copied");
        // No jailer beside it, and usually none in PATH.
        match Firecracker::new(bench.path("firecracker")).launch(&spec).await {
            Err(error @ LaunchError::NoJailer { .. }) => assert!(error.to_string().contains("MIMEO_JAILER")),
            Ok(mut machine) => machine.kill().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn a_missing_file_is_named(bench: &Bench) {
    let spec = bench.spec("machine");
    let missing = |change: fn(&mut LaunchSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        async move { bench.refused(&spec).await }
    };
    let kernel = missing(|spec| spec.kernel = "/nowhere/kernel".into()).await;
    assert!(kernel.contains("/nowhere/kernel: No such file"), "{kernel}");
    let initramfs = missing(|spec| spec.initramfs = "/nowhere/initramfs".into()).await;
    assert!(initramfs.contains("/nowhere/initramfs: No such file"), "{initramfs}");
    let disk = missing(|spec| spec.disks[0].path = "/nowhere/disk".into()).await;
    assert!(disk.contains("/nowhere/disk: No such file"), "{disk}");
}

async fn a_fault_message_is_passed_on(bench: &Bench) {
    let mut spec = bench.spec("machine");
    spec.cpus = 33;
    let error = bench.driver.launch(&spec).await.expect_err("refused");
    let LaunchError::Operation(OperationError::Refused { command, message }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(command, "to set vCPUs and memory");
    assert!(message.starts_with("Machine config error: The v") || message.contains("vCPU"), "{message}");
    // A file that is not a kernel.
    spec.cpus = 1;
    spec.kernel = bench.path("kernel-that-is-none");
    fs::write(&spec.kernel, b"\x7fELF and nothing else").expect("written");
    if bench.implementation == Implementation::Real {
        let error = bench.refused(&spec).await;
        assert!(error.contains("refused to start the machine: Start microvm error: "), "{error}");
    }
}

async fn a_killed_process_is_reported(bench: &Bench) {
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let pid = rustix::process::Pid::from_raw(machine.process().pid.cast_signed()).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let VmExit::Failed { status, .. } = machine.wait().await else { panic!("it failed") };
    assert!(status.contains("signal: 9"), "{status}");
    assert!(matches!(machine.pause().await, Err(OperationError::Gone)));
    machine.kill().await;
}

async fn a_guest_reset_is_off(bench: &Bench) {
    let mut spec = bench.spec("machine");
    spec.kernel = bench.path("resetting");
    fs::write(&spec.kernel, guest::resetting_elf()).expect("written");
    let mut machine = bench.driver.launch(&spec).await.expect("starts");
    assert_eq!(machine.wait().await, VmExit::Off);
    assert!(fs::read(&spec.console).expect("a console").starts_with(guest::GREETING));
}

async fn a_dropped_machine_is_killed(bench: &Bench) {
    let spec = bench.spec("machine");
    let machine = bench.launch(&spec).await;
    let pid = machine.process().pid;
    drop(machine);
    assert_eq!(crate::harness::start_time(pid), None, "the process is gone after the drop");
    // The directory can be reused at once.
    bench.launch(&spec).await.kill().await;
}

async fn operations_of_other_drivers_are_unsupported(bench: &Bench) {
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    let memory = machine.memory().expect_err("unsupported");
    assert!(memory.to_string().contains("the VMM saves memory itself"), "{memory}");
    let unsupported = [
        machine.save_devices(&bench.path("x")).await,
        machine.checkpoint(&bench.path("x"), Box::new(|| Ok(()))).await,
        machine.add_layer("disk", &bench.path("x")).await,
    ];
    for result in unsupported {
        assert!(matches!(result, Err(OperationError::Unsupported { driver: "firecracker", .. })));
    }
    let capabilities = bench.driver.capabilities();
    assert!(!capabilities.emulation && !capabilities.user_network && !capabilities.disk_layers);
    machine.kill().await;
}
