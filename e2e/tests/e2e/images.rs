//! Images: pull, import, list and removal.

use std::fs;
use std::path::Path;

use e2e::{Image, Layer, Outcome, Registry, StallingProxy, User, World, as_root_and_user, until};
use serde_json::json;

/// Pushes the busybox image; returns its name.
fn push_busybox(world: &World, registry: &Registry, name: &str) -> String {
    drop(world.busybox());
    registry.push(&world.files().join("busybox"), name)
}

/// Bytes that do not compress.
fn noise(mebibytes: u32) -> Vec<u8> {
    let words = (0..mebibytes << 18).scan(1u32, |state, _| {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        Some(*state)
    });
    words.flat_map(u32::to_le_bytes).collect()
}

as_root_and_user!(a_pulled_image_is_reused, |world| {
    let registry = Registry::start();
    let image = push_busybox(world, &registry, "team/tools");
    world.mimeo(["run", "--rm", &image, "echo", "pulled"]).code(0).printed("pulled\n");
    // An image in the store is not pulled again: the registry has lost its largest blob.
    fs::remove_file(registry.largest_blob()).expect("removed");
    let id = world.mimeo(["pull", "-q", &image]).code(0);
    world.mimeo(["images", "-q", "--no-trunc"]).ok().printed(&format!("sha256:{}", id.stdout));
    drop(registry);
    world.mimeo(["run", "--rm", "--pull", "never", &image, "echo", "kept"]).ok().printed("kept\n");
});

#[test]
fn pull_policies_match_podman() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let image = push_busybox(&world, &registry, "moving");
    world
        .mimeo(["run", "--rm", "--pull", "never", &image, "true"])
        .code(125)
        .stderr_contains("is not on this host, and --pull=never forbids pulling it");
    let version = |policy| world.mimeo(["run", "--rm", "--pull", policy, &image, "cat", "/version"]);
    version("missing").code(1);
    let next = Image::busybox("next").layer(Layer::default().file("version", 0o644, "2\n"));
    drop(world.image(&next));
    registry.push(&world.files().join("next"), "moving");
    version("missing").code(1);
    version("always").code(0).printed("2\n");
    version("never").ok().printed("2\n");
}

#[test]
fn images_are_listed_inspected_removed_and_pruned() {
    let world = World::new(User::Root);
    let (registry, labelled) = (Registry::start(), json!({ "tier": "front" }));
    drop(world.image(
        &Image::busybox("web").config("Labels", labelled).config("ExposedPorts", json!({"80/tcp": {}})),
    ));
    let image = registry.push(&world.files().join("web"), "web");
    let id = world.mimeo(["pull", "-q", &image]).ok().text().to_owned();
    let table = world.mimeo(["images"]).ok();
    let mut lines = table.stdout.lines();
    let words = |line: Option<&str>| {
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(lines.next()), ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    let row = words(lines.next());
    assert_eq!(
        row[..3],
        [format!("{}/web", registry.address), "latest".into(), id[..12].into()],
        "{table:#?}"
    );
    let listed = world.mimeo(["image", "ls", "--json"]).ok().json()[0].clone();
    assert_eq!((&listed["Id"], &listed["Labels"]["tier"]), (&json!(id), &json!("front")), "{listed}");
    let inspected = world.mimeo(["image", "inspect", &image]).ok().json()[0].clone();
    assert!(inspected.to_string().contains(&id) && inspected.to_string().contains("80/tcp"), "{inspected}");
    world.mimeo(["image", "inspect", "nothing"]).code(125).stderr_contains("image not known");
    world.mimeo(["image", "rm", "nothing"]).code(1).stderr_contains("image not known");
    world.mimeo(["rmi", &image]).ok().printed(&format!("Untagged: {image}\nDeleted: {id}\n"));
    world.mimeo(["images", "-q"]).ok().printed("");
    // Pulling a moved tag leaves an untagged image, which prune removes.
    world.mimeo(["pull", "-q", &image]).ok();
    push_busybox(&world, &registry, "web");
    world.mimeo(["pull", "-q", &image]).ok();
    world.mimeo(["image", "prune", "-f"]).ok().printed(&format!("{id}\n"));
    assert_eq!(world.mimeo(["images", "-q"]).ok().stdout.lines().count(), 1);
    world.mimeo(["image", "prune", "-a", "-f"]).ok();
    world.mimeo(["images", "-q"]).ok().printed("");
    assert_store_empty(&world);
}

/// Asserts that the store holds neither layers nor filesystems.
fn assert_store_empty(world: &World) {
    for dir in ["blobs/sha256", "rootfs", "tmp"] {
        let left: Vec<_> = files(&world.home().join("images").join(dir));
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_image_in_use_is_removed_only_by_force() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "user", &image, "sleep", "1000"]);
    let id = world.mimeo(["images", "-q"]).ok().text().to_owned();
    world.mimeo(["rmi", &id]).code(2).stderr_contains("used by machine user");
    world.mimeo(["image", "prune", "-a", "-f"]).ok().printed("");
    world.mimeo(["rmi", "-f", &id]).ok();
    world.mimeo(["images", "-q"]).ok().printed("");
    // The machine keeps its root filesystem.
    world.mimeo(["exec", "user", "cat", "/etc/group"]).ok();
    world.mimeo(["rm", "-f", "user"]).ok();
}

as_root_and_user!(import_makes_an_image_from_a_tar_file, |world| {
    drop(world.busybox());
    let tar = Layer::default().file("hello", 0o755, "#!/bin/sh\necho $GREETING from $(pwd)\n");
    let tar = world.file("root.tar", [Image::busybox_archive(), tar.archive()].concat());
    let changes = ["CMD [\"/hello\"]", "ENV GREETING=hi", "WORKDIR /tmp", "LABEL made=here"];
    let mut args: Vec<&str> = vec!["import", "-q"];
    changes.iter().for_each(|change| args.extend(["--change", change]));
    args.extend([tar.to_str().expect("text"), "localhost/made:1"]);
    world.mimeo(args).ok();
    world.mimeo(["run", "--rm", "localhost/made:1"]).ok().printed("hi from /tmp\n");
    world.mimeo(["import", "--change", "RUN x", "root.tar"]).code(125).stderr_contains("RUN");
    world.mimeo(["import", "missing.tar"]).code(125).stderr_contains("cannot open missing.tar");
});

#[test]
fn oci_and_docker_archives_run() {
    let world = World::new(User::Root);
    let image = world.busybox();
    for kind in ["oci-archive", "docker-archive"] {
        let target = format!("{kind}:{}.tar:localhost/boxed:1", world.files().join(kind).display());
        let mut skopeo = world.program("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", &image, &target]);
        world.finish(skopeo).code(0);
        let file = format!("{kind}:{kind}.tar");
        world.mimeo(["run", "--rm", &file, "echo", kind]).code(0).printed(&format!("{kind}\n"));
    }
}

#[test]
fn an_index_selects_the_architecture_and_zstd_is_read() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let marked = |architecture| {
        let layer = Layer::default().file("arch", 0o644, architecture);
        Image::busybox("x").layer(layer).architecture(architecture)
    };
    let dir = world.files().join("multi");
    Image::write_index_layout(&["arm64", "amd64", "riscv64"].map(marked), &dir);
    let image = registry.push_with(&["--all"], &dir, "multi");
    world.mimeo(["run", "--rm", &image, "cat", "/arch"]).code(0).printed("amd64");
    drop(world.image(&Image::busybox("plain").uncompressed()));
    let registry = Registry::start();
    let image = registry.push_with(&["--dest-compress-format", "zstd"], &world.files().join("plain"), "zstd");
    let blob = fs::read(registry.largest_blob()).expect("read");
    assert_eq!(blob[..4], [0x28, 0xb5, 0x2f, 0xfd], "skopeo did not make zstd of it");
    world.mimeo(["run", "--rm", &image, "echo", "unpacked"]).code(0).printed("unpacked\n");
}

#[test]
fn an_image_with_a_hundred_thousand_files_runs() {
    let world = World::new(User::Root);
    let mut layer = Layer::default();
    for directory in 0..100 {
        layer = layer.dir(&format!("many/{directory}/"), 0o755);
        for file in 0..1000 {
            layer = layer.file(&format!("many/{directory}/{file}"), 0o644, "");
        }
    }
    let image = world.image(&Image::busybox("many").layer(layer));
    world
        .mimeo(["run", "--rm", &image, "sh", "-c", "find /many -type f | wc -l"])
        .code(0)
        .printed("100000\n");
}

#[test]
fn concurrent_pulls_share_a_download() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let layer = Layer::default().file("noise", 0o644, noise(24));
    drop(world.image(&Image::busybox("big").layer(layer)));
    let name = registry.push(&world.files().join("big"), "big");
    let size = fs::metadata(registry.largest_blob()).expect("a blob").len();
    let proxy = StallingProxy::new(&registry.address, u64::MAX);
    let image = name.replace(&registry.address, &proxy.address);
    let children = [(); 2].map(|()| world.spawn(["pull", "-q", &image]));
    let ids = children.map(|child| Outcome::wait_for(child).ok().stdout);
    assert_eq!(ids[0], ids[1]);
    assert!(proxy.forwarded() < 2 * size, "{} bytes for a layer of {size}", proxy.forwarded());
    world.mimeo(["run", "--rm", &image, "wc", "-c", "/noise"]).ok().printed("25165824 /noise\n");
}

#[test]
fn a_killed_pull_is_resumed() {
    let world = World::new(User::Root);
    let registry = Registry::start();
    let layer = Layer::default().file("noise", 0o644, noise(24));
    drop(world.image(&Image::busybox("big").layer(layer)));
    let name = registry.push(&world.files().join("big"), "big");
    let size = fs::metadata(registry.largest_blob()).expect("a blob").len();
    let proxy = StallingProxy::new(&registry.address, size / 2);
    let image = name.replace(&registry.address, &proxy.address);
    let mut child = world.spawn(["pull", "-q", &image]);
    let partial = |name: &String| name.ends_with(".partial");
    let blobs = world.home().join("images/blobs/sha256");
    until("a quarter of the layer has arrived", || {
        let name = files(&blobs).into_iter().filter(partial).max_by_key(|name| length(&blobs.join(name)))?;
        (length(&blobs.join(name)) > size / 4).then_some(())
    });
    child.kill().expect("killed");
    child.wait().expect("ends");
    world.mimeo(["images", "-q"]).ok().printed("");
    proxy.lift_limit();
    world.mimeo(["run", "--rm", &image, "wc", "-c", "/noise"]).code(0).printed("25165824 /noise\n");
    assert!(proxy.forwarded() < size + size / 2, "{} bytes for a layer of {size}", proxy.forwarded());
    assert!(!files(&blobs).iter().any(partial), "{:?}", files(&blobs));
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
