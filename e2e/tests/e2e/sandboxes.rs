//! Whole systems.

use std::process::Command;

use e2e::{Base, User, World};

fn output(command: &mut Command) -> String {
    let output = command.output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn debians_disk_is_partitioned_as_its_cloud_image_and_has_no_identity() {
    let world = World::bare(User::Ordinary);
    let disk = Base::debian().link_into(&world);
    let table = output(Command::new("sfdisk").arg("--json").arg(&disk));
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    let partitions = table["partitiontable"]["partitions"].as_array().expect("a list");
    let root = partitions.iter().find(|it| it["node"].as_str().is_some_and(|name| name.ends_with("raw1")));
    let start = root.and_then(|it| it["start"].as_u64()).expect("partition 1") * 512;
    let device = format!("{}?offset={start}", disk.display());
    let content = |request: &str| output(Command::new("debugfs").args(["-R", request, &device]));
    assert!(content("stats").contains(Base::debian().root_uuid()));
    assert!(content("ls -p /usr/bin").contains("/cloud-init/"));
    assert!(!content("ls -p /etc/ssh").contains("ssh_host_"));
    assert_eq!(content("cat /etc/machine-id"), "");
}
