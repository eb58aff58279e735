//! The files that the container runtime manages, such as /etc/hosts. They are outside
//! the container's layer and bound over the image's files. A bind mount
//! refers to the file, not to its name, so they are always rewritten in place.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mimeo_agent_protocol::message::ContainerSetup;
use rustix::fs::{Stat, fstat, stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use super::{Root, path};
use crate::failure::{Context, SystemError};
use crate::names::Names;

const DIRECTORY: &str = "/run/mimeo/etc";
/// The flags of the filesystem that they are on.
const RESTRICTED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// The file that the container's process binds over its /proc/sys/kernel/random/boot_id.
pub(crate) const BOOT_ID: &std::ffi::CStr = c"/run/mimeo/etc/boot_id";
/// Managed files, and their paths in the container.
const BOUND_FILES: [(&str, &str); 4] = [
    ("hostname", "/etc/hostname"),
    (HOSTS, "/etc/hosts"),
    ("resolv.conf", "/etc/resolv.conf"),
    ("machine-id", "/etc/machine-id"),
];
const HOSTS: &str = "hosts";
/// Where some images have a copy of the machine id instead of a link to it.
const DBUS_ID: &str = "/var/lib/dbus/machine-id";

/// Writes all managed files, bound or not.
pub(crate) fn write(names: &Names<'_>) -> Result<(), SystemError> {
    let machine_id = names.machine_id().ok_or_else(|| SystemError::new("write machine-id", Errno::INVAL))?;
    crate::boot::create_directory(DIRECTORY)?;
    write_file("hostname", names.hostname_file().as_bytes(), 0o644)?;
    write_file(HOSTS, names.hosts().as_bytes(), 0o644)?;
    write_file("resolv.conf", names.resolv_conf().as_bytes(), 0o644)?;
    write_file("machine-id", machine_id.as_bytes(), 0o444)?;
    write_file("boot_id", random_uuid()?.as_bytes(), 0o444)
}

/// Binds all managed files but the boot id: the container's /proc is not mounted yet.
pub(super) fn bind(root: &Root, setup: &ContainerSetup) -> Result<(), SystemError> {
    let read_only = setup.read_only;
    for (name, target) in BOUND_FILES.iter().filter(|(name, _)| *name != HOSTS || !setup.no_hosts) {
        bind_file(root, name, target, read_only)?;
    }
    match root.regular_file(DBUS_ID) {
        Some(_) => bind_file(root, "machine-id", DBUS_ID, read_only),
        None => Ok(()),
    }
}

/// Whether the container's /etc/hosts is the managed one, and not the image's or the container's own.
pub(crate) fn is_hosts_bound() -> bool {
    Root::open(super::ROOT).is_ok_and(|root| is_bound(&root, HOSTS, "/etc/hosts"))
}

/// Whether a managed file is bound over the file at a path.
fn is_bound(root: &Root, name: &str, target: &str) -> bool {
    let managed = stat(managed_path(name)).ok();
    let bound = root.regular_file(target).and_then(|file| fstat(file).ok());
    let identity = |file: Stat| (file.st_dev, file.st_ino);
    managed.is_some() && managed.map(identity) == bound.map(identity)
}

/// The managed files that are bound below a directory, with their paths: a mount there would cover them.
pub(crate) fn bound_below(root: &Root, directory: &str) -> Vec<(&'static str, &'static str)> {
    let all = BOUND_FILES.into_iter().chain([("machine-id", DBUS_ID)]);
    all.filter(|(_, target)| Path::new(target).starts_with(directory))
        .filter(|(name, target)| is_bound(root, name, target))
        .collect()
}

/// Binds these files over what is mounted there now.
pub(crate) fn bind_again(
    root: &Root,
    files: &[(&'static str, &'static str)],
    read_only: bool,
) -> Result<(), SystemError> {
    files.iter().try_for_each(|(name, target)| bind_file(root, name, target, read_only))
}

fn bind_file(root: &Root, name: &str, target: &str, read_only: bool) -> Result<(), SystemError> {
    let target_file = root.file(target)?;
    mount_bind(managed_path(name), path::fd_path(&target_file)).context(format!("bind {target}"))?;
    if !read_only {
        return Ok(());
    }
    // Opened again, since the mount covers the file.
    let flags = MountFlags::BIND | MountFlags::RDONLY | RESTRICTED;
    mount_remount(path::fd_path(&root.file(target)?), flags, c"").context(format!("make {target} read-only"))
}

/// Binds a time zone's data over /etc/localtime; `content` is in hexadecimal digits.
pub(super) fn bind_local_time(root: &Root, content: &str, read_only: bool) -> Result<(), SystemError> {
    let bytes = parse_hex(content).ok_or_else(|| SystemError::new("write localtime", Errno::INVAL))?;
    write_file("localtime", &bytes, 0o644)?;
    bind_file(root, "localtime", "/etc/localtime", read_only)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let pairs = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(pairs.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A new random UUID, with a line feed.
pub(crate) fn random_uuid() -> Result<String, SystemError> {
    let path = "/proc/sys/kernel/random/uuid";
    std::fs::read_to_string(path).context(format!("read {path}"))
}

fn write_file(name: &str, content: &[u8], mode: u32) -> Result<(), SystemError> {
    let mut options = File::options();
    // The mode applies when the file is created; the agent's umask is empty.
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(managed_path(name)).and_then(|mut file| file.write_all(content));
    written.context(format!("write {name}"))
}

fn managed_path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

#[cfg(test)]
mod tests {
    use super::parse_hex;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(parse_hex("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(parse_hex(""), Some(vec![]));
        assert_eq!(parse_hex("0").or(parse_hex("zz")), None);
    }
}
