//! The host's disk and kernel, made from Debian packages by the host's own apt, and kept for the next time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use mimeo_image::{ImportOptions, Quiet, Store};
use rustix::fs::{FlockOperation, flock};

use super::qemu::Qemu;
use crate::narrate::program;

pub(super) const RELEASE: &str = "bookworm";
/// What mimeo and its tests need on a host, and Debian's kernel with KVM and 9p.
const PACKAGES: &str = "linux-image-amd64,qemu-system-x86,iproute2,kmod,nftables,busybox-static,util-linux,procps,\
                        openssh-client,e2fsprogs,ca-certificates,gdb-minimal";
/// Left out of the packages: they take most of the disk, and nothing in an emulated host uses them.
const EXCLUDED: [&str; 8] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/ethernet/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/sound/*",
];
/// The first program: it finds the rest of the start in the control directory, so that this disk is made seldom.
const FIRST_PROGRAM: &str = include_str!("first-program.sh");
/// Loaded by the initial RAM disk, and nothing else: probing for more takes seconds under emulation.
const EARLY_MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";
const RAM_DISK_SETTINGS: &str = "MODULES=list\nCOMPRESS=cat\n";

/// Of the disk, most of it a hole.
const DISK_BYTES: u64 = 2 << 30;

/// A disk with a Debian system, its kernel and the kernel's initial RAM disk.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) root: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) qemu: Qemu,
}

/// The image, made now if it is not there. Two processes that want it at once make it once.
pub(super) fn ensure() -> Result<Image> {
    let dir = super::machine::target().join("kvm-host").join(key());
    let image = Image {
        root: dir.join("root.ext4"),
        kernel: dir.join("vmlinuz"),
        initrd: dir.join("initrd"),
        qemu: Qemu::at(dir.join("qemu")),
    };
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    // Named last, so that it is there only if all is.
    if !image.root.exists() {
        eprintln!(
            "kvm-host: making the host's disk from Debian packages; this is done once, in about a minute"
        );
        make(&dir, &image).context("cannot make the KVM host's disk")?;
    }
    Ok(image)
}

/// Changes when what goes into the disk does.
fn key() -> String {
    let parts = [RELEASE, PACKAGES, &EXCLUDED.join("\n"), FIRST_PROGRAM, EARLY_MODULES, RAM_DISK_SETTINGS];
    e2e::sha256(parts.join("\n").as_bytes()).chars().take(16).collect()
}

fn make(dir: &Path, image: &Image) -> Result<()> {
    let scratch = tempfile::tempdir_in(dir)?;
    let qemu = scratch.path().join("qemu");
    fs::create_dir(&qemu)?;
    Qemu::fetch(&qemu, &dir.join("qemu")).context("cannot fetch QEMU from Debian's backports")?;
    let tar = scratch.path().join("root.tar");
    debootstrap(scratch.path(), &tar)?;
    extract_boot(&tar, image)?;
    let store = Store::open(&scratch.path().join("store"))?;
    let imported = store.import(File::open(&tar)?, &tar, &ImportOptions::default(), Arc::new(Quiet))?;
    make_space(&imported.rootfs)?;
    fs::rename(imported.rootfs, &image.root)?;
    Ok(())
}

/// As root, in a user namespace or by fakechroot: mmdebstrap takes what works here.
fn debootstrap(scratch: &Path, tar: &Path) -> Result<()> {
    let upload = |name: &str, text: &str, to: &str| {
        let path = scratch.join(name);
        fs::write(&path, text)?;
        Ok::<_, io::Error>(format!("upload {} {to}", path.display()))
    };
    let first = upload("kvm-host", FIRST_PROGRAM, "/sbin/kvm-host")?;
    let settings = upload("settings", RAM_DISK_SETTINGS, "/etc/initramfs-tools/conf.d/kvm-host")?;
    let modules = upload("modules", EARLY_MODULES, "/etc/initramfs-tools/modules")?;
    let mut args =
        vec!["--quiet".to_owned(), "--variant=minbase".to_owned(), format!("--include={PACKAGES}")];
    args.extend(EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    args.extend([first, settings, modules].iter().map(|hook| format!("--customize-hook={hook}")));
    args.push("--customize-hook=chmod 755 \"$1/sbin/kvm-host\"".to_owned());
    args.push("--customize-hook=chroot \"$1\" update-initramfs -u".to_owned());
    args.extend([RELEASE.to_owned(), tar.display().to_string()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    program("mmdebstrap", &args).map(drop)
}

/// A filesystem of an image is full to the last block.
fn make_space(root: &Path) -> Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o644))?;
    File::options().write(true).open(root)?.set_len(DISK_BYTES)?;
    program("resize2fs", &[&root.display().to_string()]).map(drop)
}

fn extract_boot(tar: &Path, image: &Image) -> Result<()> {
    let mut archive = tar::Archive::new(File::open(tar)?);
    let mut found = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let to = match path.to_string_lossy().trim_start_matches("./") {
            path if path.starts_with("boot/vmlinuz-") => &image.kernel,
            path if path.starts_with("boot/initrd.img-") => &image.initrd,
            _ => continue,
        };
        io::copy(&mut entry, &mut File::create(to)?)?;
        found += 1;
    }
    anyhow::ensure!(found == 2, "the packages hold {found} of a kernel and its initial RAM disk");
    Ok(())
}
