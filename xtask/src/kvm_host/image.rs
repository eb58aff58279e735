//! The emulated host's disk and kernel, made from Debian packages with this host's apt and cached.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use mimeo_image::{ImportOptions, Quiet, Store};
use rustix::fs::{FlockOperation, flock};

use super::qemu::Qemu;
use crate::narrate::program_output;

pub(super) const RELEASE: &str = "bookworm";
/// The packages that mimeo and its tests need, and Debian's kernel with KVM and 9p.
const PACKAGES: &str = "linux-image-amd64,qemu-system-x86,iproute2,kmod,nftables,busybox-static,util-linux,procps,\
                        openssh-client,e2fsprogs,ca-certificates,gdb-minimal";
/// Paths that are not unpacked: they take most of the disk, and the emulated host does not use them.
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
/// The init program. It runs a script from the control directory, so that the disk need not be rebuilt when the
/// script changes.
const STUB_INIT: &str = include_str!("first-program.sh");
/// The only modules that the initramfs loads: probing for more takes seconds under emulation.
const INITRAMFS_MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";
const INITRAMFS_SETTINGS: &str = "MODULES=list\nCOMPRESS=cat\n";

/// The disk's size; the file is mostly sparse.
const DISK_BYTES: u64 = 2 << 30;

/// A disk with a Debian system, its kernel and its initramfs.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) root: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) qemu: Qemu,
}

/// Returns the image, and makes it first if it does not exist. Concurrent callers make it once.
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
    // The disk gets its name last, so it exists only if everything does.
    if !image.root.exists() {
        eprintln!(
            "kvm-host: making the host's disk from Debian packages; this happens once and takes about a minute"
        );
        build(&dir, &image).context("cannot make the KVM host's disk")?;
    }
    Ok(image)
}

/// A digest of the disk's inputs, which names the cache directory.
fn key() -> String {
    let parts = [RELEASE, PACKAGES, &EXCLUDED.join("\n"), STUB_INIT, INITRAMFS_MODULES, INITRAMFS_SETTINGS];
    e2e::sha256(parts.join("\n").as_bytes()).chars().take(16).collect()
}

fn build(dir: &Path, image: &Image) -> Result<()> {
    let scratch = tempfile::tempdir_in(dir)?;
    let qemu = scratch.path().join("qemu");
    fs::create_dir(&qemu)?;
    Qemu::fetch(&qemu, &dir.join("qemu")).context("cannot fetch QEMU from Debian's backports")?;
    let tar = scratch.path().join("root.tar");
    debootstrap(scratch.path(), &tar)?;
    extract_boot(&tar, image)?;
    let store = Store::open(&scratch.path().join("store"))?;
    let imported = store.import(File::open(&tar)?, &tar, &ImportOptions::default(), Arc::new(Quiet))?;
    enlarge(&imported.rootfs)?;
    fs::rename(imported.rootfs, &image.root)?;
    Ok(())
}

/// Runs mmdebstrap, which chooses between root, a user namespace and fakechroot.
fn debootstrap(scratch: &Path, tar: &Path) -> Result<()> {
    let upload = |name: &str, text: &str, to: &str| {
        let path = scratch.join(name);
        fs::write(&path, text)?;
        Ok::<_, io::Error>(format!("upload {} {to}", path.display()))
    };
    let first = upload("kvm-host", STUB_INIT, "/sbin/kvm-host")?;
    let settings = upload("settings", INITRAMFS_SETTINGS, "/etc/initramfs-tools/conf.d/kvm-host")?;
    let modules = upload("modules", INITRAMFS_MODULES, "/etc/initramfs-tools/modules")?;
    let mut args =
        vec!["--quiet".to_owned(), "--variant=minbase".to_owned(), format!("--include={PACKAGES}")];
    args.extend(EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    args.extend([first, settings, modules].iter().map(|hook| format!("--customize-hook={hook}")));
    args.push("--customize-hook=chmod 755 \"$1/sbin/kvm-host\"".to_owned());
    args.push("--customize-hook=chroot \"$1\" update-initramfs -u".to_owned());
    args.extend([RELEASE.to_owned(), tar.display().to_string()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    program_output("mmdebstrap", &args).map(drop)
}

/// Enlarges the filesystem: that of an image has no free block.
fn enlarge(root: &Path) -> Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o644))?;
    File::options().write(true).open(root)?.set_len(DISK_BYTES)?;
    program_output("resize2fs", &[&root.display().to_string()]).map(drop)
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
    anyhow::ensure!(found == 2, "the packages contain {found} of the two files kernel and initramfs");
    Ok(())
}
