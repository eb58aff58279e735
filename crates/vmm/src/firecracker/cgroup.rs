//! Resource limits of a jailed machine, by cgroup v2.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::LaunchSpec;

/// The type of a tmpfs in `statfs` (linux/magic.h).
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// The parent cgroup of all machines.
const PARENT_GROUP: &str = "mimeo";
/// The controllers that the limits need.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// Memory of Firecracker besides the guest's, in MiB: its own, page tables, and the page cache of its disks.
const OVERHEAD_MIB: u64 = 128;
/// Threads besides one for each vCPU: three of Firecracker, and a reserve for the kernel.
const OVERHEAD_THREADS: u32 = 13;

/// The cgroup of one machine. The jailer creates it.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    /// None if the machine's directory is on a tmpfs.
    memory_bytes: Option<u64>,
    threads: u32,
}

impl Cgroup {
    /// The cgroup for a machine whose files are in `directory`. None, with a warning in the log, if this host
    /// cannot set the limits.
    pub(super) fn plan(id: &str, spec: &LaunchSpec, directory: &Path) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        match find_hierarchy(&mounts, |path| fs::read_to_string(path)) {
            Ok(root) => Some(Self {
                path: root.join(PARENT_GROUP).join(id),
                memory_bytes: memory_bytes(spec.memory_mib, directory),
                threads: spec.cpus + OVERHEAD_THREADS,
            }),
            Err(reason) => {
                tracing::warn!(machine = spec.name, reason, "cannot limit the machine's memory and threads");
                None
            }
        }
    }

    /// The jailer's arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let memory = self.memory_bytes.map(|bytes| format!("memory.max={bytes}"));
        let limits = memory.into_iter().chain([format!("pids.max={}", self.threads)]);
        let mut arguments =
            ["--cgroup-version", "2", "--parent-cgroup", PARENT_GROUP].map(OsString::from).to_vec();
        arguments.extend(limits.flat_map(|limit| ["--cgroup".into(), limit.into()]));
        arguments
    }

    /// Removes the cgroup. Its processes must have exited.
    pub(super) fn remove(&self) {
        remove_group(&self.path);
    }

    /// Removes the cgroup that the machine `id` left.
    pub(super) fn sweep(id: &str) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if let Some(root) = mount_point(&mounts) {
            remove_group(&root.join(PARENT_GROUP).join(id));
        }
    }
}

/// Files on a tmpfs are charged to the cgroup that writes them, and cannot be written back: each snapshot
/// would bring the machine closer to its limit, and the OOM killer would end it.
fn memory_bytes(memory_mib: u32, directory: &Path) -> Option<u64> {
    let is_in_memory = statfs(directory).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
    if is_in_memory {
        tracing::debug!(directory = %directory.display(), "no memory limit: the machine's directory is on a tmpfs");
        return None;
    }
    Some((u64::from(memory_mib) + OVERHEAD_MIB) << 20)
}

fn remove_group(path: &Path) {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the cgroup");
        }
        _ => {}
    }
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let path = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// The mount point of the cgroup v2 hierarchy, or why it cannot be used.
fn find_hierarchy(mounts: &str, read: impl Fn(&Path) -> io::Result<String>) -> Result<PathBuf, &'static str> {
    let root = mount_point(mounts).ok_or("cgroup v2 is not mounted")?;
    let available = read(&root.join("cgroup.controllers")).map_err(|_| "cgroup v2 cannot be read")?;
    if CONTROLLERS.iter().all(|controller| available.split_whitespace().any(|word| word == *controller)) {
        Ok(root)
    } else {
        Err("cgroup v2 has no memory and pids controllers here: cgroup v1 uses them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                          cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn a_hierarchy_without_controllers_is_rejected() {
        assert!(
            find_hierarchy(HYBRID, |_| Ok("\n".into())).is_err_and(|reason| reason.contains("cgroup v1"))
        );
        assert!(find_hierarchy("", |_| Ok("memory pids".into())).is_err());
        let found = find_hierarchy(HYBRID, |_| Ok("cpu memory pids\n".into()));
        assert_eq!(found, Ok(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn limits_become_jailer_arguments() {
        let group = Cgroup { path: "/x".into(), memory_bytes: Some(5), threads: 3 };
        let arguments: Vec<_> =
            group.arguments().into_iter().map(|word| word.into_string().expect("text")).collect();
        assert_eq!(
            arguments.join(" "),
            "--cgroup-version 2 --parent-cgroup mimeo --cgroup memory.max=5 --cgroup pids.max=3"
        );
    }

    #[test]
    fn a_machine_on_tmpfs_has_no_memory_limit() {
        assert_eq!(memory_bytes(512, Path::new("/dev/shm")), None);
        assert_eq!(memory_bytes(512, Path::new("/proc")), Some(640 << 20));
    }
}
