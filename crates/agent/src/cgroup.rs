//! Control groups. The container's is `/sys/fs/cgroup/container`, which `freeze`
//! freezes. Its processes are in a group below, the root of their cgroup namespace:
//! no mount in the container shows the limits of the group above, whatever user
//! namespaces it creates. Another group is for processes that must run during a
//! freeze. The agent is in none of them.
//!
//! The init of a whole system takes the root for itself, and makes groups of its own in it, which are frozen together. Processes
//! that the host starts in the system are in the container's group.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{ContainerSetup, Failure, FailureKind};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::boot;
use crate::failure::{Context, SystemError, failure};
use crate::procfs::{self, Stat};

const ROOT: &str = "/sys/fs/cgroup";
const CONTAINER: &str = "/sys/fs/cgroup/container";
/// The group that the container's processes are in.
const PROCESSES: &str = "/sys/fs/cgroup/container/processes";
/// The agent's own group, beside a whole system.
const AGENT: &str = "/sys/fs/cgroup/mimeo-agent";
/// The group of processes that run in the container while it is frozen.
const ASIDE: &str = "/sys/fs/cgroup/aside";
/// Timeout of a freeze: each process must leave the kernel once, which takes long
/// for one that waits for a disk.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between checks of the frozen state. It is short because the workload is already stopped.
const FREEZE_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// The period that a quota of CPU time is for, as in podman.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// The controllers to enable for the container's group, where the kernel has them.
const CONTROLLERS: [&str; 5] = ["+memory", "+pids", "+cpu", "+io", "+cpuset"];

/// Mounts the hierarchy and creates the groups.
pub(crate) fn prepare() -> Result<(), SystemError> {
    // A guest that was restored from a boot snapshot has them already.
    if Path::new(CONTAINER).exists() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    boot::mount_filesystem("cgroup2", ROOT, flags, c"")?;
    enable_controllers(ROOT);
    boot::create_directory(CONTAINER)?;
    enable_controllers(CONTAINER);
    boot::create_directory(PROCESSES)?;
    boot::create_directory(ASIDE)
}

fn enable_controllers(group: &str) {
    for controller in CONTROLLERS {
        // Fails when the kernel does not have the controller; its metrics are then absent.
        std::fs::write(format!("{group}/cgroup.subtree_control"), controller).ok();
    }
}

/// Moves the agent out of the root group.
pub(crate) fn leave_root() -> Result<(), SystemError> {
    boot::create_directory(AGENT)?;
    let own = std::process::id().to_string();
    std::fs::write(format!("{AGENT}/cgroup.procs"), own).context("move the agent into its cgroup")
}

/// The groups of the workload.
fn workload_groups(is_system: bool) -> Vec<PathBuf> {
    let all =
        if is_system { child_groups(Path::new(ROOT)).collect() } else { vec![PathBuf::from(CONTAINER)] };
    all.into_iter().filter(|group| ![AGENT, ASIDE].iter().any(|own| group == Path::new(own))).collect()
}

/// Limits the CPU time and the number of processes of the container.
pub(crate) fn limit(setup: &ContainerSetup) -> Result<(), SystemError> {
    if let Some(quota) = setup.cpu_quota_micros {
        write("cpu.max", &format!("{quota} {CPU_PERIOD_MICROS}"))
            .context("limit the container's CPU time")?;
    }
    if let Some(limit) = setup.pids_limit {
        write("pids.max", &limit.to_string()).context("limit the container's processes")?;
    }
    Ok(())
}

/// Writes a limit of both groups: the container sees the one below, and cannot lift the one above.
fn write(file: &str, value: &str) -> std::io::Result<()> {
    [CONTAINER, PROCESSES].iter().try_for_each(|group| std::fs::write(format!("{group}/{file}"), value))
}

/// Opens the group of the container's processes, to fork into.
pub(crate) fn open() -> Result<OwnedFd, SystemError> {
    open_group(PROCESSES)
}

/// Opens the group of processes that run while the container is frozen.
pub(crate) fn open_aside() -> Result<OwnedFd, SystemError> {
    open_group(ASIDE)
}

fn open_group(group: &str) -> Result<OwnedFd, SystemError> {
    rustix::fs::open(group, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(format!("open {group}"))
}

/// Freezes every process of the workload, and waits until all are frozen. On a
/// timeout it thaws them, and the failure names those that were not frozen.
pub(crate) fn freeze(is_system: bool) -> Result<(), Failure> {
    absorb_aside()?;
    let groups = workload_groups(is_system);
    if let Err(error) = set_frozen(&groups, "1") {
        // Some may be frozen already.
        set_frozen(&groups, "0")?;
        return Err(error.into());
    }
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    while !groups.iter().all(|group| is_frozen(group)) {
        if Instant::now() > deadline {
            let names = unfrozen_processes(&groups);
            set_frozen(&groups, "0")?;
            return Err(failure(FailureKind::System, format!("cannot freeze the workload: {names}")));
        }
        std::thread::sleep(FREEZE_POLL_INTERVAL);
    }
    Ok(())
}

/// Thaws every process of the workload.
pub(crate) fn thaw(is_system: bool) -> Result<(), SystemError> {
    set_frozen(&workload_groups(is_system), "0")
}

fn set_frozen(groups: &[PathBuf], value: &str) -> Result<(), SystemError> {
    let set = |group: &PathBuf| match std::fs::write(group.join("cgroup.freeze"), value) {
        // The system has removed it meanwhile, which it does only with empty groups.
        Err(_) if !group.exists() => Ok(()),
        set => set,
    };
    groups.iter().try_for_each(set).context("freeze or thaw the workload")
}

fn is_frozen(group: &Path) -> bool {
    match std::fs::read_to_string(group.join("cgroup.events")) {
        Ok(events) => find_keyed(&events, "frozen") == Some(1),
        // A group that is gone has no processes.
        Err(_) => !group.exists(),
    }
}

/// Moves the processes of the other group into the container's group.
pub(crate) fn absorb_aside() -> Result<(), SystemError> {
    for pid in pids_below(Path::new(ASIDE)) {
        match std::fs::write(format!("{PROCESSES}/cgroup.procs"), pid.to_string()) {
            // The process has just ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            moved => moved.context("move a process into the container's cgroup")?,
        }
    }
    Ok(())
}

/// The processes that delay a freeze: those that run or are in uninterruptible
/// sleep, or else all.
fn unfrozen_processes(groups: &[PathBuf]) -> String {
    let pids = groups.iter().flat_map(|group| pids_below(group));
    let mut stats: Vec<(i32, Stat)> = pids.filter_map(|pid| Some((pid, read_stat(pid)?))).collect();
    if stats.iter().any(|(_, stat)| matches!(&*stat.state, "D" | "R")) {
        stats.retain(|(_, stat)| matches!(&*stat.state, "D" | "R"));
    }
    let names: Vec<String> =
        stats.iter().map(|(pid, stat)| format!("{} ({pid}, {})", stat.name, stat.state)).collect();
    names.join(", ")
}

/// A process's /proc/PID/stat.
pub(crate) fn read_stat(pid: i32) -> Option<Stat> {
    procfs::stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The processes of the workload, as PIDs in the agent's namespace. Nested groups are included.
pub(crate) fn workload_pids(is_system: bool) -> Vec<i32> {
    workload_groups(is_system).iter().flat_map(|group| pids_below(group)).collect()
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

/// Number of the container's processes that the kernel killed because memory ran out.
pub(crate) fn out_of_memory_kills() -> u64 {
    read_keyed("memory.events", "oom_kill").unwrap_or_default()
}

/// Number of processes of the workload. Nested groups are included.
pub(crate) fn process_count(is_system: bool) -> u64 {
    match read_number("pids.current") {
        Some(0) if !is_system => 0,
        _ => workload_pids(is_system).len() as u64,
    }
}

/// The memory of the workload, in bytes; `None` if the kernel does not count it.
pub(crate) fn memory_bytes(is_system: bool) -> Option<u64> {
    sum(is_system, |group| read_number_of(group, "memory.current"))
}

/// The processor time of the workload, in microseconds; `None` if the kernel does not count it.
pub(crate) fn cpu_micros(is_system: bool) -> Option<u64> {
    sum(is_system, |group| find_keyed(&std::fs::read_to_string(group.join("cpu.stat")).ok()?, "usage_usec"))
}

/// The sum of a figure of the workload's groups. One of them may have vanished meanwhile.
fn sum(is_system: bool, read: impl Fn(&Path) -> Option<u64>) -> Option<u64> {
    workload_groups(is_system).iter().filter_map(|group| read(group)).reduce(u64::saturating_add)
}

/// Reads a number from one of the group's single-value files.
pub(crate) fn read_number(file: &str) -> Option<u64> {
    read_number_of(Path::new(CONTAINER), file)
}

fn read_number_of(group: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
}

/// Reads the number of a key from one of the group's flat keyed files.
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
