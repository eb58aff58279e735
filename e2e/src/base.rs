//! A whole Debian system on a disk, as Debian's own cloud images have it, made from Debian packages.
//!
//! Debian's image of this release configures the network by netplan and systemd-networkd, and has its root filesystem in
//! partition 1, after a BIOS boot partition and an EFI system partition. This one has no kernel and no boot loader.

use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fatfs::FormatVolumeOptions;
use rustix::fs::{FlockOperation, flock};

use crate::image::sha256;
use crate::world::{World, target};

const RELEASE: &str = "bookworm";
/// What Debian's image has for the boot, the network and cloud-init, without its kernel and its editors.
const PACKAGES: &str = "init,udev,dbus,kmod,libpam-systemd,polkitd,systemd-resolved,systemd-timesyncd,libnss-myhostname,\
                        netplan.io,iproute2,iputils-ping,netbase,procps,e2fsprogs,openssh-server,sudo,cloud-init,\
                        cloud-guest-utils";
/// Paths that no test needs.
const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
];
/// What Debian's image is left without or with, so that each guest has an identity of its own.
const SET_UP: &str = include_str!("base/set-up.sh");

/// The disk's size; the file is mostly sparse.
const DISK_BYTES: u64 = 2 << 30;
const MIB: u64 = 1 << 20;
/// Where a partition is, in bytes.
struct Partition {
    start: u64,
    bytes: u64,
}

/// The partitions of Debian's image.
const EFI: Partition = Partition { start: 4 * MIB, bytes: 124 * MIB };
const ROOT: Partition = Partition { start: 128 * MIB, bytes: DISK_BYTES - 128 * MIB - MIB };
/// Identifiers; fixed, so that the image is much the same each time.
const DISK_GUID: &str = "8d3f9a2e-5b1c-4c1d-9f57-6d696d656f00";
const EFI_PARTUUID: &str = "8d3f9a2e-5b1c-4c1d-9f57-6d696d656f0f";
const ROOT_PARTUUID: &str = "8d3f9a2e-5b1c-4c1d-9f57-6d696d656f01";
const ROOT_UUID: &str = "8d3f9a2e-5b1c-4c1d-9f57-6d696d656f11";
const ROOT_LABEL: &str = "debian-root";
/// How the images' names start.
const IMAGE: &str = "debian-";
/// How the directory of an unfinished image starts.
const BUILDING: &str = ".building-";
/// The time of everything in the filesystem: 2026-01-01.
const EPOCH: &str = "1767225600";

/// A raw disk image of a whole system. It is shared: do not write to it.
#[derive(Debug)]
pub struct Base {
    path: PathBuf,
}

impl Base {
    /// Debian bookworm with systemd, cloud-init and an SSH server, and without a kernel. The first caller makes it, in
    /// about a minute, while the others wait.
    #[must_use]
    pub fn debian() -> Self {
        let dir = target().join("e2e/bases");
        let path = dir.join(format!("{IMAGE}{}.raw", key()));
        if !path.exists() {
            fs::create_dir_all(&dir).expect("the target directory is writable");
            let lock = File::create(dir.join("lock")).expect("a lock file");
            flock(&lock, FlockOperation::LockExclusive).expect("locked");
            // Another process may have made it meanwhile.
            if !path.exists() {
                build(&dir, &path);
            }
        }
        Self { path }
    }

    /// The image.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The UUID of its root filesystem, which is ext4 in partition 1.
    #[must_use]
    pub fn root_uuid(&self) -> &'static str {
        ROOT_UUID
    }

    /// Links the image into a world's files, where the world's user can read it.
    #[must_use]
    pub fn link_into(&self, world: &World) -> PathBuf {
        let path = world.files().join("debian.raw");
        fs::hard_link(&self.path, &path)
            .or_else(|_| run(Command::new("cp").arg("--sparse=always").args([&self.path, &path])))
            .expect("linked or copied");
        path
    }
}

/// A digest of what the image is made from.
fn key() -> String {
    let table = partition_table();
    let parts =
        [RELEASE, PACKAGES, &EXCLUDED.join("\n"), SET_UP, &table, &fstab(), ROOT_UUID, ROOT_LABEL, EPOCH];
    sha256(parts.join("\n").as_bytes()).chars().take(16).collect()
}

/// Makes the image under another name, so that an interrupted build leaves none.
fn build(dir: &Path, path: &Path) {
    remove_stale(dir);
    let scratch = tempfile::Builder::new().prefix(BUILDING).tempdir_in(dir).expect("a directory");
    let (tree, disk) = (scratch.path().join("root"), scratch.path().join("disk"));
    install(scratch.path(), &tree);
    let file = File::options().read(true).write(true).create_new(true).open(&disk).expect("a file");
    file.set_len(DISK_BYTES).expect("a sparse file");
    write_partition_table(&disk);
    write_efi(&file);
    write_root(&tree, &disk);
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).expect("permissions");
    fs::rename(disk, path).expect("renamed");
}

/// Removes what interrupted builds left, and images that are made differently now. The caller has the lock.
fn remove_stale(dir: &Path) {
    for stale in fs::read_dir(dir).expect("readable").flatten() {
        let name = stale.file_name().to_string_lossy().into_owned();
        if name.starts_with(BUILDING) {
            fs::remove_dir_all(stale.path()).expect("removed");
        } else if name.starts_with(IMAGE) {
            fs::remove_file(stale.path()).expect("removed");
        }
    }
}

/// mmdebstrap uses this host's apt configuration. What it mounts in the tree is mounted in a namespace of its own, so that
/// an interrupted build can be removed.
fn install(scratch: &Path, tree: &Path) {
    let (set_up, fstab_file) = (scratch.join("set-up"), scratch.join("fstab"));
    fs::write(&set_up, SET_UP).expect("written");
    fs::write(&fstab_file, fstab()).expect("written");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]);
    command.arg(format!("--include={PACKAGES}"));
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--customize-hook=upload {} /etc/fstab", fstab_file.display()));
    command.arg(format!("--customize-hook=sh {} \"$1\"", set_up.display()));
    command.arg(RELEASE).arg(tree).env("SOURCE_DATE_EPOCH", EPOCH);
    run(&mut command).expect("apt-get install mmdebstrap (see `make deps`)");
}

/// As Debian's image has it.
fn fstab() -> String {
    format!(
        "PARTUUID={ROOT_PARTUUID} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n\
         PARTUUID={EFI_PARTUUID} /boot/efi vfat defaults 0 0\n"
    )
}

fn partition_table() -> String {
    let sectors = |bytes: u64| bytes / 512;
    format!(
        "label: gpt\nlabel-id: {DISK_GUID}\nunit: sectors\n\
         14: start=2048, size=6144, type=\"BIOS boot\", uuid=8d3f9a2e-5b1c-4c1d-9f57-6d696d656f0e\n\
         15: start={}, size={}, type=\"EFI System\", uuid={EFI_PARTUUID}\n\
         1: start={}, size={}, type=\"Linux root (x86-64)\", uuid={ROOT_PARTUUID}\n",
        sectors(EFI.start),
        sectors(EFI.bytes),
        sectors(ROOT.start),
        sectors(ROOT.bytes),
    )
}

fn write_partition_table(disk: &Path) {
    let mut sfdisk = Command::new("sfdisk");
    let mut child = sfdisk
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(disk)
        .stdin(Stdio::piped())
        .spawn()
        .expect("apt-get install fdisk (see `make deps`)");
    child.stdin.take().expect("piped").write_all(partition_table().as_bytes()).expect("written");
    assert!(child.wait().expect("waited").success(), "sfdisk failed");
}

/// An empty filesystem: all of it but its start is zero.
fn write_efi(disk: &File) {
    let mut content = vec![0; usize::try_from(EFI.bytes).expect("64 bits")];
    let options = FormatVolumeOptions::new().volume_id(0x6d69_6d65);
    fatfs::format_volume(Cursor::new(content.as_mut_slice()), options).expect("formatted");
    let used = content.iter().rposition(|byte| *byte != 0).expect("a boot sector") + 1;
    disk.write_all_at(&content[..used], EFI.start).expect("written");
}

/// mke2fs copies the tree, with its owners, into the partition.
fn write_root(tree: &Path, disk: &Path) {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-m", "5", "-L", ROOT_LABEL, "-U", ROOT_UUID]);
    command.arg("-E").arg(format!("offset={},hash_seed={ROOT_UUID},nodiscard", ROOT.start));
    command.arg("-d").args([tree, disk]).arg(format!("{}k", ROOT.bytes / 1024));
    command.env("E2FSPROGS_FAKE_TIME", EPOCH);
    run(&mut command).expect("apt-get install e2fsprogs (see `make deps`)");
}

/// Runs a program and requires success.
fn run(command: &mut Command) -> std::io::Result<()> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    Ok(())
}
