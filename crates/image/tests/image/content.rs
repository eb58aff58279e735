//! The filesystem contains what the layers declare.

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
    let mut bytes = vec![0; 8 << 20];
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

/// GNU tar's four formats for sparse files.
#[tokio::test]
async fn sparse_files_of_gnu_tar_are_read() {
    use std::os::unix::fs::FileExt;
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let home = Home::new();
        let path = home.path("holes");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        for part in 0..12 {
            file.write_all_at(b"data", part * 300_000 + 4096).unwrap();
        }
        let mut command = std::process::Command::new("tar");
        command
            .args(["--create", "--sparse", "--file=-"])
            .args(format)
            .arg("-C")
            .arg(home.dir.path())
            .arg("holes");
        let out = command.output().expect("tar is needed");
        assert!(out.status.success() && out.stdout.len() < 1 << 20, "{format:?}");
        let image = home.pull_layers(&[out.stdout]).await.unwrap();
        fsck(&image.rootfs);
        assert!(read(&image.rootfs, "/holes") == std::fs::read(&path).unwrap(), "{format:?}");
    }
}

#[tokio::test]
async fn large_directories_hold_names_of_all_scripts() {
    let home = Home::new();
    let names: Vec<String> = (0..3000).map(|n| format!("d/Főtanúsítvány-日本-{n}")).collect();
    let tar = names.iter().fold(Tar::new(), |tar, name| tar.file(name, name.as_bytes())).done();
    let image = home.pull_layers(&[tar]).await.unwrap();
    fsck(&image.rootfs);
    assert_eq!(read(&image.rootfs, "/d/Főtanúsítvány-日本-2999"), "d/Főtanúsítvány-日本-2999".as_bytes());
}

/// ACLs must have the format that the kernel stores.
#[tokio::test]
async fn access_control_lists_are_stored_as_ext4_has_them() {
    let home = Home::new();
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries =
        [entry(1, 6, none), entry(2, 4, 1000), entry(4, 4, none), entry(0x10, 4, none), entry(0x20, 0, none)];
    let acl = [&2u32.to_le_bytes()[..], &entries.concat()].concat();
    let tar = Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)]).file("f", b"x").done();
    let image = home.pull_layers(&[tar]).await.unwrap();
    fsck(&image.rootfs);
    let list = debugfs(&image.rootfs, "ea_list /f");
    assert!(list.contains("system.posix_acl_access"), "{list}");
}

/// The paths below the root that e2fsprogs reads, with bytes that are not ASCII as debugfs shows them.
fn listed(image: &std::path::Path, directory: &str) -> Vec<String> {
    let text = debugfs(image, &format!("ls -p {directory}"));
    let names = text.lines().filter_map(|line| line.split('/').nth(5)).map(str::to_owned);
    let mut names: Vec<_> =
        names.filter(|name| !matches!(name.as_str(), "" | "." | ".." | "lost+found")).collect();
    names.sort();
    names
}

fn raw_path(bytes: &[u8]) -> ext4_view::PathBuf {
    ext4_view::PathBuf::try_from(bytes).unwrap()
}

#[tokio::test]
async fn names_and_targets_keep_their_bytes() {
    let home = Home::new();
    let long_target = [&b"t/".repeat(60)[..], b"\xfc"].concat();
    let low = Tar::new()
        .dir("d/")
        .pax(&[("path", b"d/caf\xe9")])
        .file("d/x", b"one")
        .pax(&[("path", b"d/l"), ("linkpath", b"caf\xe9")])
        .symlink("d/l", "x")
        .pax(&[("path", b"d/long"), ("linkpath", &long_target)])
        .symlink("d/long", "x")
        .pax(&[("path", b"h\xe4rd"), ("linkpath", b"d/caf\xe9")])
        .link("h", "x")
        .pax(&[("path", b"dir\xff/sub\xfe/file")])
        .file("y", b"deep")
        .pax(&[("path", b"gone\xe9")])
        .file("z", b"hidden")
        .file("0000", b"not a placeholder")
        .done();
    let high = Tar::new().pax(&[("path", b".wh.gone\xe9")]).file("w", b"").done();
    let image = home.pull_layers(&[low, high]).await.unwrap();
    fsck(&image.rootfs);
    let filesystem = ext4_view::Ext4::load_from_path(&image.rootfs).unwrap();
    let read = |path: &[u8]| filesystem.read(&raw_path(path)).unwrap();
    assert_eq!(read(b"/d/caf\xe9"), b"one");
    assert_eq!(read(b"/d/l"), b"one");
    assert_eq!(read(b"/h\xe4rd"), b"one");
    assert_eq!(read(b"/dir\xff/sub\xfe/file"), b"deep");
    assert_eq!(read(b"/0000"), b"not a placeholder");
    let target = filesystem.read_link(&raw_path(b"/d/long")).unwrap();
    assert_eq!(target.as_ref() as &[u8], long_target);
    assert_eq!(listed(&image.rootfs, "/").len(), 4, "{:?}", listed(&image.rootfs, "/"));
}

#[tokio::test]
async fn a_large_directory_of_raw_names_is_searched_without_hashes() {
    let home = Home::new();
    // Names of 250 bytes: enough for a hashed directory with inner nodes.
    let name = |number: usize| [format!("big/{number:06}").as_bytes(), &[0xe9; 244][..]].concat();
    let tar = (0..9000).fold(Tar::new().dir("big/"), |tar, number| {
        tar.pax(&[("path", &name(number))]).file("x", number.to_string().as_bytes())
    });
    let image = home.pull_layers(&[tar.done()]).await.unwrap();
    fsck(&image.rootfs);
    let filesystem = ext4_view::Ext4::load_from_path(&image.rootfs).unwrap();
    for number in [0, 1, 4500, 8999] {
        let path = [b"/", &name(number)[..]].concat();
        assert_eq!(filesystem.read(&raw_path(&path)).unwrap(), number.to_string().as_bytes());
    }
    assert_eq!(filesystem.read_dir("/big").unwrap().count(), 9002);
}

#[tokio::test]
async fn symbolic_links_have_all_permissions() {
    let home = Home::new();
    let image = home.pull_layers(&[Tar::new().symlink("l", "tmp").done()]).await.unwrap();
    let link = debugfs(&image.rootfs, "stat /l");
    assert!(link.contains("Mode:  0777"), "{link}");
}
