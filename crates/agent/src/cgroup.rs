//! Control groups. The container's is `/sys/fs/cgroup/container`, and is what a
//! freeze stops; beside it is one for what must run meanwhile. The agent stays
//! outside of both.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Failure, FailureKind};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::boot;
use crate::failure::{Context, SystemError, failure};
use crate::procfs::{self, Stat};

const ROOT: &str = "/sys/fs/cgroup";
const CONTAINER: &str = "/sys/fs/cgroup/container";
/// For processes of the container that run while it is frozen.
const ASIDE: &str = "/sys/fs/cgroup/aside";
/// How long a workload may take to hold still: each of its processes must come
/// out of the kernel once, which one that waits for a disk does late.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile: the workload stands, so that each wait counts.
const FREEZE_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// What is counted in the container's group, where the kernel can.
const CONTROLLERS: [&str; 5] = ["+memory", "+pids", "+cpu", "+io", "+cpuset"];

/// Mounts the hierarchy and makes the container's group.
pub(crate) fn prepare() -> Result<(), SystemError> {
    // A guest that was copied before it had work brings them along.
    if Path::new(CONTAINER).exists() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    boot::mount_filesystem("cgroup2", ROOT, flags, c"")?;
    for controller in CONTROLLERS {
        // A kernel without that controller does without its figures.
        std::fs::write(format!("{ROOT}/cgroup.subtree_control"), controller).ok();
    }
    boot::create_directory(CONTAINER)?;
    boot::create_directory(ASIDE)
}

/// The container's group, to fork into.
pub(crate) fn open() -> Result<OwnedFd, SystemError> {
    open_group(CONTAINER)
}

/// The group beside it.
pub(crate) fn open_aside() -> Result<OwnedFd, SystemError> {
    open_group(ASIDE)
}

fn open_group(group: &str) -> Result<OwnedFd, SystemError> {
    rustix::fs::open(group, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(format!("open {group}"))
}

/// Stops every process of the container, and waits until all stand. Those that
/// do not in time are named, and the rest go on.
pub(crate) fn freeze() -> Result<(), Failure> {
    absorb_aside()?;
    set_frozen("1")?;
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    while read_keyed("cgroup.events", "frozen") != Some(1) {
        if Instant::now() > deadline {
            let names = unfrozen_processes();
            set_frozen("0")?;
            return Err(failure(FailureKind::System, format!("the workload does not hold still: {names}")));
        }
        std::thread::sleep(FREEZE_POLL_INTERVAL);
    }
    Ok(())
}

/// Lets every process of the container go on.
pub(crate) fn thaw() -> Result<(), SystemError> {
    set_frozen("0")
}

fn set_frozen(value: &str) -> Result<(), SystemError> {
    std::fs::write(format!("{CONTAINER}/cgroup.freeze"), value).context("freeze or thaw the workload")
}

/// Makes what runs beside the container a part of it.
pub(crate) fn absorb_aside() -> Result<(), SystemError> {
    for pid in pids_below(Path::new(ASIDE)) {
        match std::fs::write(format!("{CONTAINER}/cgroup.procs"), pid.to_string()) {
            // It has just ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            moved => moved.context("make a process part of the workload")?,
        }
    }
    Ok(())
}

/// Processes that are in the way of a freeze: those that run, or wait for what
/// nothing may interrupt.
fn unfrozen_processes() -> String {
    let mut stats: Vec<(i32, Stat)> =
        pids().into_iter().filter_map(|pid| Some((pid, read_stat(pid)?))).collect();
    if stats.iter().any(|(_, stat)| matches!(&*stat.state, "D" | "R")) {
        stats.retain(|(_, stat)| matches!(&*stat.state, "D" | "R"));
    }
    let names: Vec<String> =
        stats.iter().map(|(pid, stat)| format!("{} ({pid}, {})", stat.name, stat.state)).collect();
    names.join(", ")
}

/// What the kernel says of a process.
pub(crate) fn read_stat(pid: i32) -> Option<Stat> {
    procfs::stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The container's processes, by their ids in the agent's namespace; nested groups count.
pub(crate) fn pids() -> Vec<i32> {
    pids_below(Path::new(CONTAINER))
}

fn pids_below(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for child in child_groups(group) {
        pids.extend(pids_below(&child));
    }
    pids
}

fn child_groups(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path())
}

/// Processes of the container that the kernel killed for want of memory.
pub(crate) fn out_of_memory_kills() -> u64 {
    read_keyed("memory.events", "oom_kill").unwrap_or_default()
}

/// How many processes the container has; nested groups count.
pub(crate) fn process_count() -> u64 {
    match read_number("pids.current") {
        Some(0) => 0,
        _ => pids().len() as u64,
    }
}

/// A number in one of the group's flat files.
pub(crate) fn read_number(file: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new(CONTAINER).join(file)).ok()?.trim().parse().ok()
}

/// A number behind its name in one of the group's keyed files.
pub(crate) fn read_keyed(file: &str, key: &str) -> Option<u64> {
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
