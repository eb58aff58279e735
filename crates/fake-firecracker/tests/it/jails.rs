use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mimeo_vmm::SaveKind;
use mimeo_vmm::firecracker::{SHARED_GID, uid};

use crate::fence::status;
use crate::harness::{Bench, Implementation, Jailed, on_each, ticks};

on_each!(
    a_jailed_process_has_its_own_user_and_no_privileges,
    files_belong_to_the_jailed_user_or_the_group,
    two_machines_have_two_users,
);

async fn a_jailed_process_has_its_own_user_and_no_privileges(bench: &Bench) {
    let spec = bench.spec("machine");
    let mut machine = bench.launch(&spec).await;
    ticks(&spec, 1).await;
    let pid = machine.process().pid;
    assert!(status(pid, "Name").contains("firecrac"), "{}", status(pid, "Name"));
    if bench.implementation == Implementation::Real {
        assert_eq!(status(pid, "Seccomp"), "2", "its filter is on");
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("read");
    assert!(environment.is_empty(), "{environment:?}");
    if bench.jailed == Jailed::Yes {
        let user = uid(&bench.path("machine"));
        assert_eq!(status(pid, "Uid"), [user; 4].map(|id| id.to_string()).join(" "));
        assert_eq!(status(pid, "Gid"), [SHARED_GID; 4].map(|id| id.to_string()).join(" "));
        assert_eq!(status(pid, "Groups"), "");
        assert_eq!(status(pid, "CapEff"), "0000000000000000");
        assert_eq!(status(pid, "NSpid"), format!("{pid} 2"), "it sees its own processes only");
        assert!(bench.path("machine").join("jail").is_dir());
    }
    if (bench.jailed, bench.implementation) == (Jailed::Yes, Implementation::Real) {
        assert!(fs::metadata(format!("/proc/{pid}/root/etc")).is_err(), "its root is the host's");
    }
    machine.kill().await;
    assert!(!bench.path("machine").join("jail").exists());
}

async fn files_belong_to_the_jailed_user_or_the_group(bench: &Bench) {
    if bench.jailed == Jailed::No {
        return;
    }
    let spec = bench.spec("machine");
    // Files that only root may read become readable by the group; files readable by all stay as they are.
    let set = |name: &str, mode| {
        fs::set_permissions(bench.path(name), Permissions::from_mode(mode)).expect("set");
    };
    set("image", 0o600);
    set("kernel", 0o644);
    set("initramfs", 0o600);
    let mut machine = bench.launch(&spec).await;
    let owner = |name: &str| {
        let file = fs::metadata(bench.path(name)).expect("there");
        (file.uid(), file.gid(), file.mode() & 0o777)
    };
    assert_eq!(owner("image"), (0, SHARED_GID, 0o640));
    assert_eq!(owner("kernel"), (0, 0, 0o644));
    // Files that are read once may stay the host's own.
    assert_eq!(owner("initramfs"), (0, 0, 0o600));
    assert_eq!(owner("machine/disk"), (uid(&bench.path("machine")), SHARED_GID, 0o600));
    bench.save(machine.as_mut(), "saved", SaveKind::Full).await;
    assert_eq!(owner("saved/memory"), (0, SHARED_GID, 0o640));
    assert_eq!(owner("saved/state"), (0, SHARED_GID, 0o640));
    machine.kill().await;
    assert!(bench.path("image").exists() && bench.path("machine/disk").exists());
}

async fn two_machines_have_two_users(bench: &Bench) {
    let mut one = bench.launch(&bench.spec("one")).await;
    let mut two = bench.launch(&bench.spec("two")).await;
    let users = [one.process().pid, two.process().pid].map(|pid| status(pid, "Uid"));
    assert_eq!(users[0] != users[1], bench.jailed == Jailed::Yes, "{users:?}");
    one.kill().await;
    two.kill().await;
}
