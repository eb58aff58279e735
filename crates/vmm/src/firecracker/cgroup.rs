//! Limits of a jailed machine, by cgroups of the second version.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::LaunchSpec;

/// The group of all machines.
const PARENT: &str = "mimeo";
/// Controllers that the limits need.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// What Firecracker needs besides the guest's memory, in MiB: itself, page
/// tables, and what is read ahead of its disks.
const OVERHEAD_MIB: u64 = 128;
/// What it needs besides a thread for each processor: three of its own, and
/// some for the kernel's sake.
const OTHER_THREADS: u32 = 13;

/// The control group of one machine. The jailer makes it.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    memory_bytes: u64,
    threads: u32,
}

impl Cgroup {
    /// None where this host has no such limits, which the log then tells.
    pub(super) fn plan(id: &str, spec: &LaunchSpec) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        match usable(&mounts, |path| fs::read_to_string(path)) {
            Ok(root) => Some(Self {
                path: root.join(PARENT).join(id),
                memory_bytes: (u64::from(spec.memory_mib) + OVERHEAD_MIB) << 20,
                threads: spec.cpus + OTHER_THREADS,
            }),
            Err(reason) => {
                tracing::warn!(
                    machine = spec.name,
                    reason,
                    "the machine has no limits of memory and threads"
                );
                None
            }
        }
    }

    /// The jailer's arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let memory = format!("memory.max={}", self.memory_bytes);
        let threads = format!("pids.max={}", self.threads);
        ["--cgroup-version", "2", "--parent-cgroup", PARENT, "--cgroup", &memory, "--cgroup", &threads]
            .map(OsString::from)
            .to_vec()
    }

    /// Removes it; its processes are gone.
    pub(super) fn remove(&self) {
        remove(&self.path);
    }

    /// Removes the one that the machine `id` left.
    pub(super) fn sweep(id: &str) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if let Some(root) = mount_point(&mounts) {
            remove(&root.join(PARENT).join(id));
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the control group");
        }
        _ => {}
    }
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let place = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(place))
    })
}

/// Where the hierarchy is, or why it is of no use.
fn usable(mounts: &str, read: impl Fn(&Path) -> io::Result<String>) -> Result<PathBuf, &'static str> {
    let root = mount_point(mounts).ok_or("cgroup v2 is not mounted")?;
    let offered = read(&root.join("cgroup.controllers")).map_err(|_| "cgroup v2 cannot be read")?;
    if CONTROLLERS.iter().all(|wanted| offered.split_whitespace().any(|word| word == *wanted)) {
        Ok(root)
    } else {
        Err("cgroup v2 has no controllers of memory and threads here: they are with cgroup v1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                          cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn a_hierarchy_without_controllers_is_of_no_use() {
        assert!(usable(HYBRID, |_| Ok("\n".into())).is_err_and(|reason| reason.contains("cgroup v1")));
        assert!(usable("", |_| Ok("memory pids".into())).is_err());
        let found = usable(HYBRID, |_| Ok("cpu memory pids\n".into()));
        assert_eq!(found, Ok(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn the_jailer_is_told_all_limits() {
        let group = Cgroup { path: "/x".into(), memory_bytes: 5, threads: 3 };
        let words: Vec<_> =
            group.arguments().into_iter().map(|word| word.into_string().expect("text")).collect();
        assert_eq!(
            words.join(" "),
            "--cgroup-version 2 --parent-cgroup mimeo --cgroup memory.max=5 --cgroup pids.max=3"
        );
    }
}
