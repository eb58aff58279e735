use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering;
use std::thread;

use super::*;
use crate::manifest::RootFilesystem;
use crate::test_images::{
    Files, MIB, Packing, Qcow2Image, TestStore, debian, ext4_bytes, ext4_image, gpt_image, program, sparse,
};
use crate::validate;

fn name(text: &str) -> BaseName {
    text.parse().expect("a name")
}

fn add(test: &TestStore, base: &str, file: &Path) -> Result<Manifest, AddError> {
    test.store.add(&name(base), file, &AddOptions::default())
}

fn outcomes(checks: &[Check]) -> Vec<(&str, Outcome)> {
    checks.iter().map(|check| (check.name.as_str(), check.outcome)).collect()
}

#[test]
fn a_debian_becomes_a_base() {
    let test = TestStore::new();
    let file = test.file("disk.raw");
    gpt_image(&[(15, &[0; 1 << 20]), (1, &ext4_bytes(&debian()))], &file);
    let before = fs::read(&file).expect("read");
    let added = add(&test, "debian", &file).expect("added");
    let disk = test.store.disk(&added.name);
    assert_eq!(fs::read(&disk).expect("read"), before);
    let meta = fs::metadata(&disk).expect("metadata");
    assert_eq!(meta.permissions().mode() & 0o777, 0o444);
    assert!(meta.blocks() * 512 < 8 * MIB, "{} blocks", meta.blocks());
    assert_eq!((added.format, added.virtual_bytes), (crate::Format::Raw, before.len() as u64));
    let root = added.root.as_ref().expect("a root");
    assert_eq!((root.partition, root.filesystem.as_str()), (Some(1), "ext4"));
    assert_eq!(root.uuid.as_ref().map(String::len), Some(36));
    let system = added.system.as_ref().expect("a system");
    let os = system.os.as_ref().expect("an os-release");
    assert_eq!((os.id.as_deref(), os.version_id.as_deref()), (Some("debian"), Some("12")));
    assert_eq!(system.architecture.as_deref(), Some(std::env::consts::ARCH));
    let init = system.init.as_ref().expect("an init");
    assert_eq!((init.path.as_str(), init.target.as_str()), ("/sbin/init", "/usr/lib/systemd/systemd"));
    assert_eq!(init.systemd.as_deref(), Some("252.39-1~deb12u1"));
    assert_eq!(
        system.cloud_init.as_ref().and_then(|found| found.version.as_deref()),
        Some("22.4.2-1+deb12u3")
    );
    assert_eq!(system.network.renderer.as_deref(), Some("netplan"));
    assert_eq!(system.kernels.images, ["vmlinuz-6.1.0-40-cloud-amd64"]);
    assert_eq!(system.ssh_server.as_deref(), Some("sshd"));
    assert!(added.checks.iter().all(|check| check.outcome == Outcome::Ok), "{:#?}", added.checks);
    assert_eq!(test.store.list().expect("listed"), std::slice::from_ref(&added));
    assert_eq!(test.store.read(&added.name).expect("read"), added);
}

#[test]
fn every_format_gives_the_same_disk() {
    let test = TestStore::new();
    let content = ext4_bytes(&debian());
    let raw = test.file("disk.raw");
    fs::write(&raw, &content).expect("written");
    let digest = add(&test, "raw", &raw).expect("added").digest;
    for (at, (version, packing)) in [
        (2, Packing::Plain),
        (2, Packing::Deflate),
        (3, Packing::Plain),
        (3, Packing::Deflate),
        (3, Packing::Zstd),
    ]
    .into_iter()
    .enumerate()
    {
        let file = test.file("disk.qcow2");
        fs::write(&file, Qcow2Image::new(version, packing).write(&content)).expect("written");
        let added = add(&test, &format!("qcow2-{at}"), &file).expect("added");
        assert_eq!((added.format, &added.digest), (crate::Format::Qcow2, &digest), "{version} {packing:?}");
        assert_eq!(fs::read(test.store.disk(&added.name)).expect("read"), content);
    }
}

#[test]
fn a_disk_of_ten_terabytes_takes_what_is_in_it() {
    let test = TestStore::new();
    let content = ext4_bytes(&debian());
    let bytes = 10_000_000_000_000_u64;
    let raw = test.file("disk.raw");
    sparse(&raw, bytes, &[(0, &content)]);
    let from_raw = add(&test, "raw", &raw).expect("added");
    let qcow2 = test.file("disk.qcow2");
    let image = Qcow2Image { bytes, ..Qcow2Image::new(3, Packing::Plain) };
    fs::write(&qcow2, image.write(&content)).expect("written");
    let from_qcow2 = add(&test, "qcow2", &qcow2).expect("added");
    assert_eq!(from_raw.digest, from_qcow2.digest);
    for base in [from_raw, from_qcow2] {
        let meta = fs::metadata(test.store.disk(&base.name)).expect("metadata");
        assert_eq!((meta.len(), base.virtual_bytes), (bytes, bytes));
        assert!(meta.blocks() * 512 < 64 * MIB, "{} blocks", meta.blocks());
    }
}

#[test]
fn a_name_is_given_once() {
    let test = TestStore::new();
    let file = test.file("disk.raw");
    ext4_image(&debian(), &file);
    let added: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| add(&test, "debian", &file))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (good, bad): (Vec<_>, Vec<_>) = added.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    assert!(bad.iter().all(|added| matches!(added, Err(AddError::Exists { .. }))), "{bad:?}");
    assert_eq!(test.leftovers(), ["debian"]);
}

#[test]
fn a_cancelled_addition_leaves_nothing() {
    let test = TestStore::new();
    let file = test.file("disk.raw");
    ext4_image(&debian(), &file);
    let options = AddOptions::default();
    options.cancelled.store(true, Ordering::Relaxed);
    let error = test.store.add(&name("debian"), &file, &options).expect_err("cancelled");
    assert!(matches!(error, AddError::Flatten(FlattenError::Cancelled)), "{error}");
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    let test = TestStore::new();
    let file = test.file("disk.raw");
    ext4_image(&debian(), &file);
    fs::create_dir(test.store.root().join(".new-dead")).expect("created");
    let alive = test.store.root().join(".new-alive");
    fs::create_dir(&alive).expect("created");
    let lock = File::open(&alive).expect("opened");
    lock.lock().expect("locked");
    add(&test, "debian", &file).expect("added");
    let mut left = test.leftovers();
    left.sort();
    assert_eq!(left, [".new-alive", "debian"]);
}

#[test]
fn what_no_machine_could_start_from_is_refused() {
    let test = TestStore::new();
    let without = |path: &str| {
        let mut files = debian();
        files.remove(path).expect("it was there");
        files
    };
    let other = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let foreign = Files::from_iter(debian().into_iter().map(|(path, content)| match path {
        "usr/lib/systemd/systemd" => (path, program(Some(other))),
        _ => (path, content),
    }));
    for (files, part) in [
        (
            without("usr/lib/os-release"),
            "root-filesystem: none found (the whole disk: ext4, no os-release in it)",
        ),
        (Files::from([("etc/hostname", b"x".to_vec())]), "no init and no os-release in it"),
        (foreign, "but this host is"),
    ] {
        let file = test.file("disk.raw");
        ext4_image(&files, &file);
        let error = add(&test, "bad", &file).expect_err("refused");
        assert!(
            matches!(error, AddError::Invalid { .. }) && error.to_string().contains(part),
            "{part}: {error}"
        );
        fs::remove_file(&file).expect("removed");
    }
    let file = test.file("empty.raw");
    sparse(&file, 16 * MIB, &[]);
    let error = add(&test, "bad", &file).expect_err("refused");
    assert!(error.to_string().contains("the whole disk: no known filesystem"), "{error}");
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn an_image_without_cloud_init_is_a_base_with_a_warning() {
    let test = TestStore::new();
    let mut files = debian();
    files.remove("usr/bin/cloud-init");
    files.insert(
        "var/lib/dpkg/status",
        b"Package: base-files\nStatus: install ok installed\nVersion: 12\n".to_vec(),
    );
    files.insert("etc/machine-id", b"0123456789abcdef0123456789abcdef\n".to_vec());
    files.insert("usr/lib/systemd/libsystemd-shared-252.so", b"".to_vec());
    files.remove("usr/sbin/sshd");
    files.remove("usr/lib/modules/6.1.0-40-cloud-amd64/kernel/drivers/net/virtio_net.ko");
    let file = test.file("disk.raw");
    ext4_image(&files, &file);
    let added = add(&test, "bare", &file).expect("added");
    let expected = [
        ("partition-table", Outcome::Ok),
        ("root-filesystem", Outcome::Ok),
        ("architecture", Outcome::Ok),
        ("init", Outcome::Ok),
        ("cloud-init", Outcome::Warning),
        ("network", Outcome::Warning),
        ("nic-driver", Outcome::Warning),
        ("machine-id", Outcome::Warning),
        ("ssh-server", Outcome::Warning),
    ];
    assert_eq!(outcomes(&added.checks), expected, "{:#?}", added.checks);
    assert!(added.checks.iter().all(|check| (check.outcome == Outcome::Ok) == check.hint.is_none()));
    assert_eq!(
        added.system.and_then(|system| system.init).and_then(|init| init.systemd).as_deref(),
        Some("252")
    );
}

#[test]
fn a_filesystem_that_cannot_be_looked_into_is_a_warning() {
    let test = TestStore::new();
    let (mut small, mut large) = (vec![0; MIB as usize], vec![0; 2 * MIB as usize]);
    small[..4].copy_from_slice(b"XFSB");
    large[65_600..65_608].copy_from_slice(b"_BHRfS_M");
    let file = test.file("disk.raw");
    gpt_image(&[(1, &small), (3, &large)], &file);
    let added = add(&test, "opaque", &file).expect("added");
    let root = RootFilesystem { partition: Some(3), filesystem: "btrfs".to_owned(), uuid: None };
    assert_eq!((added.root, added.system), (Some(root), None));
    assert_eq!(
        outcomes(&added.checks),
        [("partition-table", Outcome::Ok), ("root-filesystem", Outcome::Warning)]
    );
}

#[test]
fn a_truncated_raw_image_is_refused() {
    let test = TestStore::new();
    let file = test.file("disk.raw");
    gpt_image(&[(1, &ext4_bytes(&debian()))], &file);
    let whole = fs::metadata(&file).expect("metadata").len();
    for (bytes, part) in [
        (whole - 512, "its partition table ends at byte"),
        (8 * MIB, "the image is truncated"),
        (8 * MIB + 1, "is not a positive multiple of 512"),
        (0, "is not a positive multiple of 512"),
    ] {
        File::options().write(true).open(&file).and_then(|file| file.set_len(bytes)).expect("truncated");
        let error = add(&test, "cut", &file).expect_err("refused");
        assert!(error.to_string().contains(part), "{bytes}: {error}");
    }
    // A filesystem without a partition table says how large it is, too.
    let file = test.file("filesystem.raw");
    ext4_image(&debian(), &file);
    File::options().write(true).open(&file).and_then(|file| file.set_len(16 * MIB)).expect("truncated");
    let error = add(&test, "cut", &file).expect_err("refused");
    assert!(
        error.to_string().contains("the filesystem has 33554432 bytes, but its partition only"),
        "{error}"
    );
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn damaged_filesystems_are_survived() {
    let content = ext4_bytes(&debian());
    let test = TestStore::new();
    let file = test.file("disk.raw");
    fs::write(&file, &content).expect("written");
    let disk = File::options().write(true).open(&file).expect("opened");
    let mut survived = 0;
    // Bytes of the superblock, the group descriptors and the inodes.
    for at in (1024..content.len().min(1 << 19)).step_by(997) {
        let good = &content[at..at + 64];
        let damaged: Vec<u8> = good.iter().map(|byte| byte ^ 0xff).collect();
        disk.write_all_at(&damaged, at as u64).expect("written");
        let report = validate(&file).expect("a report");
        survived += usize::from(is_usable(&report.checks));
        disk.write_all_at(good, at as u64).expect("written");
    }
    assert!(survived > 0, "no damage was harmless");
}
