//! Volumes: directories and files of the host in a machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use e2e::{User, World, as_root_and_user, sha256, until};

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).expect("the file exists");
    (metadata.uid(), metadata.gid())
}

as_root_and_user!(a_volume_is_shared_in_both_directions, |world| {
    let image = world.busybox();
    let file = world.file("shared/from-host", "host\n");
    let dir = file.parent().expect("a directory");
    let volume = format!("{}:/data", dir.display());
    world.start(["--name", "web", "-v", &volume, &image, "sleep", "1000"]);
    let sh = |shell: &str| world.mimeo(["exec", "web", "sh", "-c", shell]);
    // root in the guest is the user on the host, and vice versa.
    sh("cat /data/from-host; stat -c %u:%g /data /data/from-host").ok().printed("host\n0:0\n0:0\n");
    sh("echo guest > /data/from-guest; mkdir -m 750 /data/dir; ln -s from-host /data/link").ok();
    assert_eq!(fs::read_to_string(dir.join("from-guest")).expect("read"), "guest\n");
    for name in ["from-guest", "dir", "link"] {
        assert_eq!(owner(&dir.join(name)), owner(dir), "{name}");
    }
    assert_eq!(fs::metadata(dir.join("dir")).expect("the file exists").permissions().mode() & 0o777, 0o750);
    // Each side sees the changes of the other.
    fs::write(dir.join("from-host"), "changed on the host\n").expect("written");
    until("the guest sees the change", || {
        (sh("cat /data/from-host").stdout == "changed on the host\n").then_some(())
    });
    sh("echo more >> /data/from-host; mv /data/from-guest /data/moved; rm /data/link").ok();
    assert_eq!(fs::read_to_string(dir.join("from-host")).expect("read"), "changed on the host\nmore\n");
    assert!(dir.join("moved").exists() && !dir.join("from-guest").exists() && !dir.join("link").exists());
    // Data that the machine has written is still there after its end.
    sh("echo last > /data/last").ok();
    world.mimeo(["rm", "-f", "-t", "1", "web"]).ok();
    assert_eq!(fs::read_to_string(dir.join("last")).expect("read"), "last\n");
});

as_root_and_user!(a_read_only_volume_is_not_written, |world| {
    let image = world.busybox();
    let file = world.file("shared/kept", "kept\n");
    let volume = format!("{}:/data:ro", file.parent().expect("a directory").display());
    let shell = "cat /data/kept; touch /data/new; echo x > /data/kept; rm /data/kept; mkdir /data/dir; chmod 777 /data/kept";
    let outcome =
        world.mimeo(["run", "--rm", "-v", &volume, &image, "sh", "-c", shell]).code(1).printed("kept\n");
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 5, "{outcome:#?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), "kept\n");
    assert_eq!(fs::read_dir(file.parent().expect("a directory")).expect("readable").count(), 1);
});

as_root_and_user!(a_file_volume_hides_its_neighbours, |world| {
    let image = world.busybox();
    let file = world.file("shared/only", "one\n");
    world.file("shared/neighbour", "hidden\n");
    let rw = format!("{}:/etc/only", file.display());
    let ro = format!("{}:/ro/only:ro", file.display());
    let shell =
        "cat /etc/only /ro/only; ls /ro; echo two > /etc/only; echo x > /ro/only; cat /ro/../ro/neighbour";
    let outcome = world.mimeo(["run", "--rm", "-v", &rw, "-v", &ro, &image, "sh", "-c", shell]).code(1);
    assert_eq!(outcome.stdout, "one\none\nonly\n", "{outcome:#?}");
    assert!(outcome.stderr.contains("Read-only") && outcome.stderr.contains("No such file"), "{outcome:#?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), "two\n");
});

#[test]
fn guest_users_are_bound_by_file_modes() {
    let world = World::new(User::Ordinary);
    let image = world.busybox();
    let file = world.file("shared/private", "secret\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    let volume = format!("{}:/data", file.parent().expect("a directory").display());
    let run =
        |user: &str| world.mimeo(["run", "--rm", "-u", user, "-v", &volume, &image, "cat", "/data/private"]);
    run("0").ok().printed("secret\n");
    run("app").code(1).stderr_contains("Permission denied").printed("");
}

#[test]
fn many_files_and_a_large_one_are_intact() {
    let world = World::new(User::Root);
    let image = world.busybox();
    let big: Vec<u8> = (0..8_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let path = world.file("shared/big", &big);
    (0..1000)
        .for_each(|n| fs::write(path.with_file_name(format!("file-{n}")), n.to_string()).expect("written"));
    let volume = format!("{}:/data", path.parent().expect("a directory").display());
    let shell = "cd /data; ls | wc -l; cat file-* | wc -c; sha256sum big; cp big copy; \
                 mkdir new; for n in $(seq 1000); do echo $n > new/$n; done";
    let outcome = world.mimeo(["run", "--rm", "-v", &volume, &image, "sh", "-c", shell]).ok();
    assert_eq!(outcome.stdout, format!("1001\n2890\n{}  big\n", sha256(&big)));
    assert_eq!(sha256(&fs::read(path.with_file_name("copy")).expect("read")), sha256(&big));
    assert_eq!(fs::read_dir(path.with_file_name("new")).expect("readable").count(), 1000);
}

as_root_and_user!(volume_symlinks_resolve_in_the_guest, |world| {
    let image = world.busybox();
    let secret = world.file("secret", "of the host\n");
    let dir = world.file("shared/file", "").parent().expect("a directory").to_owned();
    symlink(&secret, dir.join("absolute")).expect("linked");
    symlink("../secret", dir.join("relative")).expect("linked");
    symlink("/etc/group", dir.join("etc")).expect("linked");
    let volume = format!("{}:/data", dir.display());
    let shell = "cat /data/etc | head -n 1; cat /data/absolute /data/relative /data/../secret; \
                 ln -s / /data/root; cat /data/root/etc/hostname; readlink /data/absolute";
    let outcome =
        world.mimeo(["run", "--rm", "--hostname", "box", "-v", &volume, &image, "sh", "-c", shell]).code(0);
    assert_eq!(outcome.stdout, format!("root:x:0:\nbox\n{}\n", secret.display()), "{outcome:#?}");
    assert_eq!(outcome.stderr.matches("No such file").count(), 3, "{outcome:#?}");
});
