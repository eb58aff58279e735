//! What a layer declares is what the filesystem holds.

use mimeo_image::PullOptions;
use tar::EntryType;

use crate::support::{Home, Tar, debugfs, exists, fsck, gzip, read};

#[tokio::test]
async fn owners_modes_links_devices_and_times_survive() {
    let home = Home::new();
    let tar = Tar::new()
        .dir("./")
        .dir("bin/")
        .add("bin/su", EntryType::Regular, b"setuid", |h| {
            h.set_mode(0o4755);
            h.set_uid(70_000);
            h.set_gid(5);
        })
        .link("bin/su2", "bin/su")
        .symlink("sbin", "bin")
        .symlink("long", &"x/".repeat(45))
        .add("dev/null", EntryType::Char, b"", |h| {
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
        })
        .add("dev/sda", EntryType::Block, b"", |h| {
            h.set_device_major(8).unwrap();
            h.set_device_minor(0).unwrap();
        })
        .add("run/pipe", EntryType::Fifo, b"", |_| {})
        .file("empty", b"")
        .done();
    let image = home.pull_layers(&[tar]).await.unwrap();
    fsck(&image.rootfs);
    let su = debugfs(&image.rootfs, "stat /bin/su");
    assert!(su.contains("Mode:  04755"), "{su}");
    assert!(su.contains("User: 70000   Group:     5"), "{su}");
    assert!(su.contains("Links: 2"), "{su}");
    assert!(su.contains("mtime: 0x6553f100"), "{su}");
    assert_eq!(read(&image.rootfs, "/sbin/su2"), b"setuid");
    assert_eq!(read(&image.rootfs, "/empty"), b"");
    assert!(debugfs(&image.rootfs, "stat /dev/null").contains("Device major/minor number: 01:03"));
    assert!(debugfs(&image.rootfs, "stat /dev/sda").contains("Type: block special"));
    assert!(debugfs(&image.rootfs, "stat /run/pipe").contains("Type: FIFO"));
    assert!(debugfs(&image.rootfs, "stat /long").contains("Size: 90"));
    assert_eq!(image.names.len(), 1);
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGQUIT"));
}

#[tokio::test]
async fn extended_attributes_survive() {
    let home = Home::new();
    let capability: &[u8] =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let big = vec![b'v'; 3000];
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", b"hi")])
        .file("ping", b"x")
        .pax(&[("SCHILY.xattr.user.big", &big), ("SCHILY.xattr.com.apple.provenance", b"no")])
        .file("big", b"y")
        .done();
    let image = home.pull_layers(&[tar]).await.unwrap();
    fsck(&image.rootfs);
    let ping = debugfs(&image.rootfs, "ea_list /ping");
    assert!(ping.contains("security.capability (20)"), "{ping}");
    assert!(ping.contains("user.note (2) = \"hi\""), "{ping}");
    let big = debugfs(&image.rootfs, "ea_list /big");
    assert!(big.contains("user.big (3000)"), "{big}");
    assert!(!big.contains("apple"), "{big}");
}

#[tokio::test]
async fn layers_are_merged() {
    let home = Home::new();
    let low = Tar::new()
        .file("usr/lib/old", b"1")
        .symlink("lib", "usr/lib")
        .file("gone/x", b"2")
        .file("opaque/low", b"3")
        .file("becomes/dir", b"4")
        .done();
    let high = Tar::new()
        .file("lib/new", b"5")
        .file(".wh.gone", b"")
        .file("opaque/high", b"6")
        .file("opaque/.wh..wh..opq", b"")
        .file("becomes", b"file")
        .done();
    let image = home.pull_layers(&[low, high]).await.unwrap();
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/usr/lib/new"), b"5");
    assert_eq!(read(&image.rootfs, "/usr/lib/old"), b"1");
    assert_eq!(read(&image.rootfs, "/becomes"), b"file");
    for (path, there) in [("/gone", false), ("/opaque/low", false), ("/opaque/high", true)] {
        assert_eq!(exists(&image.rootfs, path), there, "{path}");
    }
}

#[tokio::test]
async fn tar_gzip_and_zstd_give_the_same_filesystem() {
    let tar = Tar::new().dir("a").file("a/b", &[7; 100_000]).done();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let mut found = Vec::new();
    for packed in [tar.clone(), gzip(&tar), zstd] {
        let home = Home::new();
        let image = home.pull_packed(&[(tar.clone(), packed)], &PullOptions::default()).await.unwrap();
        fsck(&image.rootfs);
        found.push(std::fs::read(&image.rootfs).unwrap());
    }
    assert!(found[0] == found[1] && found[1] == found[2]);
}

#[tokio::test]
async fn long_runs_of_zeros_are_holes() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::new();
    let mut bytes = vec![0; 64 << 20];
    bytes[5 << 20] = 1;
    let tail = bytes.len() - 1;
    bytes[tail] = 2;
    let tar = Tar::new().file("sparse", &bytes).file("zeros", &bytes[6 << 20..7 << 20]).done();
    let image = home.pull_layers(&[tar]).await.unwrap();
    fsck(&image.rootfs);
    assert!(read(&image.rootfs, "/sparse") == bytes);
    assert_eq!(read(&image.rootfs, "/zeros"), vec![0; 1 << 20]);
    assert!(std::fs::metadata(&image.rootfs).unwrap().blocks() * 512 < 4 << 20);
}
