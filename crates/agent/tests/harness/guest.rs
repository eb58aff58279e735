//! The disks of the tests' machines: a busybox image and an empty writable one.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::run;

const APPLETS: [&str; 37] = [
    "cat", "chmod", "chroot", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "id", "ip",
    "kill", "ln", "ls", "mkdir", "mkfifo", "chown", "mount", "mv", "nc", "ps", "pwd", "readlink", "rm", "sh",
    "sleep", "stat", "stty", "test", "touch", "true", "tty", "umask", "wc", "yes",
];

/// Makes both disks.
pub fn disks(directory: &Path) {
    let root = directory.join("root");
    for name in ["bin", "etc", "root", "tmp", "home/www"] {
        std::fs::create_dir_all(root.join(name)).expect("makes");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("links");
    }
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).expect("writes");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/home/www:/bin/sh\n");
    write("etc/group", "root:x:0:\nwww:x:34:\nlogs:x:40:www\n");
    write("etc/secret", "only root may\n");
    write("bin/garbage", "\x01\x02\x03");
    for (name, mode) in [("etc/secret", 0o600), ("bin/garbage", 0o755), ("tmp", 0o1777)] {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))
            .expect("changes the mode");
    }
    symlink("/", root.join("slash")).expect("links");
    symlink("../run/resolv.conf", root.join("etc/resolv.conf")).expect("links");
    let make = || {
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal"]);
        make
    };
    run(make().arg("-d").arg(&root).arg(directory.join("image")).arg("24M"));
    run(make().arg(directory.join("writable")).arg("64M"));
}
