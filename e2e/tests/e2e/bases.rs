//! Bases: disk images of whole systems. Machines that start from them have tests of their own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use e2e::{User, World};

/// Writes an image that is an ext4 filesystem with what validation looks for.
fn image(world: &World, name: &str, has_os_release: bool) -> PathBuf {
    let tree = tempfile::tempdir().expect("a directory");
    let write = |path: &str, content: &[u8]| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, content).expect("written");
    };
    let program = fs::read("/proc/self/exe").expect("read");
    write("usr/lib/systemd/systemd", &program[..64]);
    fs::create_dir(tree.path().join("sbin")).expect("created");
    symlink("/usr/lib/systemd/systemd", tree.path().join("sbin/init")).expect("linked");
    write("usr/bin/cloud-init", b"#!/usr/bin/python3\n");
    if has_os_release {
        write("etc/os-release", b"ID=debian\nVERSION_ID=12\nPRETTY_NAME='Debian 12'\n");
    }
    let path = world.file(name, "");
    let mut command = Command::new("/usr/sbin/mke2fs");
    let done = command.args(["-q", "-F", "-t", "ext4", "-d"]).arg(tree.path()).arg(&path).arg("32M").status();
    assert!(done.expect("mke2fs, of the package e2fsprogs").success());
    path
}

fn life_of_a_base(user: User) {
    let world = World::bare(user);
    let file = image(&world, "disk.raw", true);
    let before = fs::read(&file).expect("read");
    let added = world.mimeo(["base", "add", "debian", "disk.raw"]).code(0);
    added.stderr_contains("ssh-server: it is not installed").printed("debian\n");
    assert!(fs::read(&file).expect("read") == before, "the image was changed");
    world.mimeo(["base", "ls", "--quiet"]).ok().printed("debian\n");
    assert!(world.mimeo(["base", "ls"]).ok().text().contains("Debian 12"));
    let base = world.mimeo(["base", "inspect", "debian"]).ok().json()[0].clone();
    assert_eq!(base["root"]["partition"], serde_json::Value::Null, "{base}");
    assert_eq!(
        (base["root"]["filesystem"].as_str(), base["source"].as_str()),
        (Some("ext4"), Some("disk.raw"))
    );
    let disk = world.mimeo(["base", "inspect", "--format", "{{.disk}}", "debian"]).ok();
    assert!(fs::read(disk.text().trim()).expect("read") == before, "the base has another content");
    for subject in ["debian", "./disk.raw"] {
        let report = world.mimeo(["base", "validate", "--format", "json", subject]).ok().json();
        assert_eq!(report["checks"][0]["outcome"], "ok", "{report}");
    }
    world
        .mimeo(["base", "add", "debian", "disk.raw"])
        .code(125)
        .stderr_contains("a base with the name debian exists");
    world.mimeo(["base", "rm", "debian"]).ok().printed("debian\n");
    world.mimeo(["base", "rm", "debian"]).code(1).stderr_contains("no base has the name debian");
    world.mimeo(["base", "inspect", "debian"]).code(125).printed("[]\n");
    assert!(!fs::exists(disk.text().trim()).expect("asked"));
}

#[test]
fn a_base_is_added_shown_and_removed_as_root() {
    life_of_a_base(User::Root);
}

#[test]
fn a_base_is_added_shown_and_removed_as_user() {
    life_of_a_base(User::Ordinary);
}

#[test]
fn a_base_is_downloaded() {
    let world = World::bare(User::Root);
    let content = fs::read(image(&world, "disk.raw", true)).expect("read");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/debian.raw", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            request.extend(byte);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).expect("replied");
        stream.write_all(&content).expect("replied");
    });
    world.mimeo(["base", "add", "--quiet", "debian", &url]).ok().printed("debian\n");
    server.join().expect("served");
    world.mimeo(["base", "inspect", "--format", "{{.source}}", "debian"]).ok().printed(&format!("{url}\n"));
    assert_eq!(base_entries(&world), [".lock", "debian"]);
}

#[test]
fn what_cannot_be_a_base_leaves_nothing() {
    let world = World::bare(User::Root);
    image(&world, "no-system.raw", false);
    world.file("image.qcow2.xz", b"\xfd7zXZ\0rest");
    for (file, part) in [
        ("no-system.raw", "no os-release in it"),
        ("image.qcow2.xz", "decompress it first with `unxz`"),
        ("absent.raw", "No such file"),
    ] {
        world.mimeo(["base", "add", "bad", file]).code(125).stderr_contains(part).printed("");
    }
    world.mimeo(["base", "add", "../bad", "no-system.raw"]).code(125).stderr_contains("is not a valid name");
    let report = world.mimeo(["base", "validate", "no-system.raw"]).code(1);
    assert!(report.text().contains("root-filesystem  error"), "{}", report.text());
    let left: Vec<_> = base_entries(&world).into_iter().filter(|name| name != ".lock").collect();
    assert_eq!(left, Vec::<String>::new());
}

/// What is in the directory of bases.
fn base_entries(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.home().join("bases")).expect("read");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
