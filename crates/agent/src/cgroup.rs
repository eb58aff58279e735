//! The container's control group, `/sys/fs/cgroup/container`; the agent stays outside.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::boot;
use crate::failure::{Context, SystemError};

const ROOT: &str = "/sys/fs/cgroup";
const CONTAINER: &str = "/sys/fs/cgroup/container";
/// What is counted in the container's group, where the kernel can.
const CONTROLLERS: [&str; 5] = ["+memory", "+pids", "+cpu", "+io", "+cpuset"];

/// Mounts the hierarchy and makes the container's group.
pub(crate) fn prepare() -> Result<(), SystemError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    boot::filesystem("cgroup2", ROOT, flags, c"")?;
    for controller in CONTROLLERS {
        // A kernel without that controller does without its figures.
        std::fs::write(format!("{ROOT}/cgroup.subtree_control"), controller).ok();
    }
    boot::directory(CONTAINER)
}

/// The group, to fork into.
pub(crate) fn open() -> Result<OwnedFd, SystemError> {
    rustix::fs::open(CONTAINER, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open the container's cgroup")
}

/// Processes of the container that the kernel killed for want of memory.
pub(crate) fn out_of_memory_kills() -> u64 {
    keyed("memory.events", "oom_kill").unwrap_or_default()
}

/// How many processes the container has; nested groups count.
pub(crate) fn processes() -> u64 {
    match number("pids.current") {
        Some(0) => 0,
        _ => listed(Path::new(CONTAINER)),
    }
}

fn listed(group: &Path) -> u64 {
    let own =
        std::fs::read_to_string(group.join("cgroup.procs")).map_or(0, |text| text.lines().count() as u64);
    let nested = std::fs::read_dir(group).into_iter().flatten().flatten();
    let nested = nested.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own + nested.map(|entry| listed(&entry.path())).sum::<u64>()
}

/// A number in one of the group's flat files.
pub(crate) fn number(file: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new(CONTAINER).join(file)).ok()?.trim().parse().ok()
}

/// A number behind its name in one of the group's keyed files.
pub(crate) fn keyed(file: &str, key: &str) -> Option<u64> {
    find_keyed(&std::fs::read_to_string(Path::new(CONTAINER).join(file)).ok()?, key)
}

fn find_keyed(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::find_keyed;

    #[test]
    fn a_key_is_not_the_prefix_of_another() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(find_keyed(events, "oom"), Some(3));
        assert_eq!(find_keyed(events, "oom_kill"), Some(2));
        assert_eq!(find_keyed(events, "max"), None);
    }
}
