//! `mimeo setup`: prepares a host for its first machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use e2e::{Outcome, User, World, as_root_and_user};
use serde_json::Value;

fn check(checks: &Value, name: &str) -> Value {
    let all = checks.as_array().expect("a list");
    all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {checks:#}")).clone()
}

/// All files below a directory, with their modification times.
fn files(dir: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let metadata = entry.metadata().expect("the file exists");
        if metadata.is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.file_name() != ".lock" {
            all.insert(entry.path(), metadata.modified().expect("a time"));
        }
    }
    all
}

/// Copies the kernel to the file that `--kernel` is given.
fn kernel_file(world: &World) -> String {
    let file = world.files().join("given-vmlinux");
    let kernel = fs::canonicalize(world.home().join("kernels/default/vmlinux")).expect("the file exists");
    fs::copy(kernel, &file).expect("copied");
    world.chown(&file);
    file.to_string_lossy().into_owned()
}

fn count_entries(world: &World, prefix: &str) -> usize {
    let names = fs::read_dir(world.home().join("kernels")).expect("readable").flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).count()
}

as_root_and_user!(preflight_reports_the_accelerator, |world| {
    let outcome = world.mimeo(["setup", "preflight", "--json"]);
    let checks = outcome.json();
    let missing = checks.as_array().expect("a list").iter().any(|check| check["status"] == "missing");
    assert_eq!(outcome.code, i32::from(missing), "{outcome:#?}");
    assert_eq!(check(&checks, "kernel")["status"], "ok");
    // The reported accelerator is the one that machines use.
    let image = world.busybox();
    world.start(["--name", "web", &image, "true"]);
    let checks = world.mimeo(["setup", "preflight", "--json"]).json();
    let acceleration = check(&checks, "acceleration");
    let emulated = acceleration["detail"].as_str().expect("words").starts_with("emulation: ");
    assert_eq!(emulated, acceleration["status"] == "limited", "{acceleration}");
    if !Path::new("/dev/kvm").exists() {
        assert_eq!(acceleration["detail"], "emulation: this host has no /dev/kvm");
    }
    let machine = world.mimeo(["inspect", "-f", "{{.Accelerator}}", "web"]).ok();
    assert_eq!(machine.stdout.starts_with("tcg"), emulated, "{machine:#?}");
});

#[test]
fn preflight_hints_how_to_get_a_kernel() {
    let world = World::bare(User::Root);
    let checks = world.mimeo(["setup", "preflight", "--json"]).code(1).json();
    let kernel = check(&checks, "kernel");
    assert_eq!((&kernel["status"], &kernel["hint"]), (&"missing".into(), &"mimeo setup kernel".into()));
    let mut command = world.command(["setup", "preflight", "--json"]);
    command.env("PATH", "/nowhere");
    let qemu = check(&world.finish(command).code(1).json(), "qemu");
    assert_eq!(qemu["status"], "missing");
    assert!(qemu["hint"].as_str().expect("a command").contains("apt-get install"), "{qemu}");
    let table = world.mimeo(["setup", "preflight"]).code(1).stdout;
    assert!(table.starts_with("CHECK") && table.contains("mimeo setup kernel"), "{table}");
}

#[test]
fn setup_is_idempotent() {
    let world = World::new(User::Ordinary);
    world.mimeo(["setup"]).code(0);
    let before = files(&world.home().join("kernels"));
    let children = [(); 2].map(|()| world.spawn(["setup"]));
    children.into_iter().for_each(|child| drop(Outcome::wait_for(child).code(0)));
    assert_eq!(files(&world.home().join("kernels")), before);
}

#[test]
fn concurrent_setups_make_one_kernel() {
    let world = World::new(User::Root);
    let kernel = kernel_file(&world);
    let kernels = world.home().join("kernels");
    fs::remove_dir_all(&kernels).expect("removed");
    fs::create_dir_all(kernels.join(".staging-dead/modules")).expect("made");
    fs::write(kernels.join(".staging-dead/vmlinux"), "half a ker").expect("written");
    let children = [(); 2].map(|()| world.spawn(["setup", "kernel", "--json", "--kernel", &kernel]));
    let [first, second] = children.map(|child| Outcome::wait_for(child).code(0).json());
    assert_eq!(first, second);
    let name = fs::read_link(kernels.join("default")).expect("a default");
    assert_eq!(name.to_str(), first["name"].as_str());
    assert_eq!(
        (
            count_entries(&world, ".staging-"),
            count_entries(&world, ".broken-"),
            count_entries(&world, "file-")
        ),
        (0, 0, 1)
    );
    // A damaged kernel is set aside and installed again.
    let image = kernels.join(name).join("vmlinux");
    fs::write(&image, "damaged").expect("written");
    world
        .mimeo(["setup", "kernel", "--kernel", &kernel])
        .code(0)
        .stderr_contains("set aside the unusable kernel");
    assert_eq!((count_entries(&world, ".broken-"), count_entries(&world, "file-")), (1, 1));
    assert!(fs::metadata(&image).expect("the file exists").len() > 1 << 20);
}

#[test]
fn an_invalid_kernel_is_refused_and_the_old_one_stays() {
    let world = World::new(User::Root);
    let before = fs::read_link(world.home().join("kernels/default")).expect("a default");
    for (file, reason) in [
        ("/etc/passwd", "/etc/passwd cannot be booted"),
        ("/no/kernel", "/no/kernel"),
        ("/bin/busybox", "/bin/busybox cannot be booted"),
    ] {
        world.mimeo(["setup", "kernel", "--kernel", file]).code(125).stderr_contains(reason);
    }
    let modules = ["setup", "kernel", "--kernel", &kernel_file(&world), "--modules", "/etc"];
    world.mimeo(modules).code(125).stderr_contains("/etc");
    assert_eq!(fs::read_link(world.home().join("kernels/default")).expect("a default"), before);
    assert_eq!((count_entries(&world, ".staging-"), count_entries(&world, "file-")), (0, 0));
    let image = world.busybox();
    world.mimeo(["run", "--rm", &image, "echo", "still"]).ok().printed("still\n");
}
