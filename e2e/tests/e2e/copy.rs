//! `mimeo cp`: links as the destination, and files that the kernel generates.

use std::fs;
use std::os::unix::fs::symlink;

use e2e::{User, World, as_root_and_user};

as_root_and_user!(a_copy_is_written_through_a_link_in_the_machine, |world| {
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    world.sh("web", "ln -s /tmp/target /tmp/dangling; ln -s dangling /tmp/chain; echo old > /tmp/old; ln -s old /tmp/link");
    world.sh("web", "ln -s loop /tmp/loop; ln -s none/x /tmp/astray; mkdir /tmp/dir; ln -s dir /tmp/dirlink; ln -s /tmp/new /tmp/newlink");
    world.file("one", "1\n");
    world.file("two", "2\n");
    world.file("tree/a", "a\n");
    let cp = |from: &str, to: &str| world.mimeo(["cp", from, &format!("web:/tmp/{to}")]);
    cp("one", "chain").ok();
    cp("two", "link").ok();
    cp("one", "dirlink").ok();
    cp("tree", "newlink").ok();
    let line = "cd /tmp; for l in dangling chain link dirlink newlink; do readlink $l; done; cat target old dir/one new/a";
    let expected = "/tmp/target\ndangling\nold\ndir\n/tmp/new\n1\n2\n1\na";
    assert_eq!(world.sh("web", line), expected);
    // From another place in the machine, as from the host.
    world.mimeo(["cp", "web:/tmp/old", "web:/tmp/chain"]).ok();
    assert_eq!(world.sh("web", "cat /tmp/target; readlink /tmp/chain"), "2\ndangling");
    // podman too replaces a link that leads to itself, and fails where the directory does not exist.
    cp("one", "loop").ok();
    assert_eq!(world.sh("web", "stat -c %F /tmp/loop"), "regular file");
    cp("one", "astray").code(125).stderr_contains("No such file or directory");
    cp("one", "dangling/").code(125);
});

as_root_and_user!(a_copy_replaces_a_link_on_the_host, |world| {
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    let link = world.files().join("link");
    let other = world.file("other", "kept");
    symlink(&other, &link).expect("linked");
    world.mimeo(["cp", "web:/etc/passwd", "link"]).ok();
    assert!(fs::read_to_string(&link).expect("read").starts_with("root:"));
    assert_eq!(fs::read_to_string(other).expect("read"), "kept");
});

#[test]
fn files_that_the_kernel_generates_are_copied_whole() {
    let world = World::new(User::Root);
    let image = world.busybox();
    world.start(["--name", "web", &image, "sleep", "1000"]);
    // stat reports no size for the first, and a page for the second.
    for path in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        let expected = world.sh("web", &format!("cat {path}"));
        world.mimeo(["cp", &format!("web:{path}"), "copy"]).ok();
        let copy = fs::read_to_string(world.files().join("copy")).expect("read");
        assert_eq!(copy.trim_end(), expected, "{path}");
        world.mimeo(["cp", &format!("web:{path}"), "web:/tmp/copy"]).ok();
        assert_eq!(world.sh("web", "cat /tmp/copy"), expected, "{path}");
        world.mimeo(["cp", path, "web:/tmp/hosts"]).ok();
        let host = fs::read_to_string(path).expect("read");
        assert_eq!(world.sh("web", "cat /tmp/hosts"), host.trim_end(), "{path}");
    }
    world.mimeo(["cp", "web:/proc/sys/net/ipv4/conf/lo", "settings"]).code(0);
    assert_eq!(fs::read_to_string(world.files().join("settings/mtu")).ok(), None);
    let forwarding = fs::read_to_string(world.files().join("settings/forwarding")).expect("copied");
    assert_eq!(forwarding.trim(), world.sh("web", "cat /proc/sys/net/ipv4/conf/lo/forwarding"));
    // It cannot be read where there is no memory.
    world.mimeo(["cp", "web:/proc/1/mem", "mem"]).code(125).stderr_contains("cannot pack /proc/1/mem");
}
