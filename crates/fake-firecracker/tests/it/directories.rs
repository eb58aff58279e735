use std::fs;
use std::os::unix::net::UnixListener;

use mimeo_vmm::SaveKind;
use mimeo_vmm::firecracker::sweep;

use crate::harness::{Bench, Jailed, counted, on_each, spec_in, ticks};

on_each!(
    a_directory_may_have_a_long_path,
    leftovers_of_a_dead_machine_are_replaced,
    no_network_and_no_disk_are_needed,
    an_old_log_is_not_part_of_the_exit,
);

async fn a_directory_may_have_a_long_path(bench: &Bench) {
    let deep = (0..4).fold(bench.path("deep"), |path, _| path.join("d".repeat(120)));
    fs::create_dir_all(&deep).expect("made");
    let spec = spec_in(bench.dir.path(), "deep", &deep);
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let saved = bench.save(machine.as_mut(), "saved", SaveKind::Full).await;
    let _link = machine.take_link().expect("a link");
    machine.kill().await;
    let mut clone = bench.restore(&spec, &saved).await;
    clone.resume().await.expect("resumes");
    ticks(&spec, 2).await;
    clone.kill().await;
}

async fn leftovers_of_a_dead_machine_are_replaced(bench: &Bench) {
    let spec = bench.spec("machine");
    let dir = bench.path("machine");
    for name in ["vmm.sock", "link.sock"] {
        drop(UnixListener::bind(dir.join(name)).expect("binds"));
    }
    std::os::unix::fs::symlink("/nowhere", dir.join("vmm.drive0")).expect("linked");
    fs::write(dir.join("vmm.log.pipe"), "no pipe").expect("written");
    fs::create_dir_all(dir.join("jail/firecracker/some/root/dev")).expect("made");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    machine.kill().await;
    if bench.jailed == Jailed::No {
        assert!(!dir.join("vmm.sock").exists() && !dir.join("link.sock").exists());
    }
    // Leftovers of the other kind of machine are swept.
    assert_eq!(sweep(&dir).expect("swept"), bench.jailed == Jailed::No);
    assert!(!sweep(&dir).expect("nothing is left"));
    let leftovers: Vec<_> =
        fs::read_dir(&dir).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert!(
        leftovers.iter().all(|name| ["disk", "console.log", "vmm.log"].iter().any(|allowed| name == allowed)),
        "{leftovers:?}"
    );
}

async fn no_network_and_no_disk_are_needed(bench: &Bench) {
    let mut spec = bench.spec("machine");
    spec.disks.clear();
    spec.initramfs.clear();
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let saved = bench.save(machine.as_mut(), "saved", SaveKind::Full).await;
    assert!(counted(&saved.memory) > 0);
    machine.kill().await;
    bench.restore(&spec, &saved).await.kill().await;
}

async fn an_old_log_is_not_part_of_the_exit(bench: &Bench) {
    let spec = bench.spec("machine");
    fs::write(bench.path("machine").join("vmm.log"), "an old message\n").expect("written");
    let mut machine = bench.launch(&spec).await;
    machine.kill().await;
    let exit = machine.wait().await;
    assert!(!format!("{exit:?}").contains("an old message"), "{exit:?}");
}
