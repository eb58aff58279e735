//! `processes`: lists the container's processes, with their PIDs in the container.

use std::collections::HashMap;
use std::fs::read_to_string;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mimeo_agent_protocol::message::{Failure, ProcessInfo, Reply};
use rustix::fs::{Mode, OFlags};

use crate::blocking::{ContainerRoot, run_in_container};
use crate::cgroup;
use crate::failure::Context;
use crate::launch::read_image_file;
use crate::machine::Machine;
use crate::procfs::{self, Stat, TICK_MICROS, USER_HZ};
use crate::users;

/// Bytes in a page, on all supported architectures.
const PAGE_BYTES: u64 = 4096;

/// A process, with its PIDs in the agent's and in the container's namespace.
#[derive(Debug)]
struct ObservedProcess {
    outer: i32,
    inner: u32,
    uid: u32,
    stat: Stat,
    command: String,
}

/// Lists the container's processes.
pub(crate) async fn handle(machine: &Arc<Machine>) -> Result<Reply, Failure> {
    let container = machine.container()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The agent's /proc: the container may have hidden its own.
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).context("open /proc")?;
    let root = ContainerRoot::MountNamespace(container.mount_ns.clone());
    // A whole system is in the agent's PID namespace, where the kernel's threads are, too.
    let of_system = container.is_system().then(|| cgroup::workload_pids(true));
    let (passwd, seen) = run_in_container(root, move || {
        let seen = match of_system {
            Some(pids) => pids.into_iter().filter_map(|pid| read_process(&proc, pid, 0)).collect(),
            None => read_processes(&proc),
        };
        Ok((read_image_file("/etc/passwd")?, seen))
    })
    .await?;
    let uptime = procfs::uptime(&read_to_string("/proc/uptime").context("read /proc/uptime")?);
    Ok(Reply::Processes { processes: describe(&seen, &passwd, uptime) })
}

/// Reads the processes through a descriptor of the agent's /proc, which is outside the container's root.
fn read_processes(proc: &OwnedFd) -> Vec<ObservedProcess> {
    let Ok(entries) =
        rustix::fs::openat(proc, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::fs::Dir::new)
    else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
    names.filter_map(|pid| read_process(proc, pid, 1)).collect()
}

/// Reads a process that is this many PID namespaces below the agent's.
fn read_process(proc: &OwnedFd, outer: i32, depth: usize) -> Option<ObservedProcess> {
    let read = |name: &str| -> Option<String> {
        let path = PathBuf::from(outer.to_string()).join(name);
        let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let status = read("status")?;
    // The PIDs from the agent's namespace inwards; processes outside the container have only one.
    let inner = procfs::field(&status, "NSpid")?.split_ascii_whitespace().nth(depth)?.parse().ok()?;
    let uid = procfs::field(&status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let stat = procfs::stat(&read("stat")?)?;
    let command = read("cmdline").unwrap_or_default();
    Some(ObservedProcess { outer, inner, uid, stat, command })
}

fn describe(seen: &[ObservedProcess], passwd: &str, uptime: f64) -> Vec<ProcessInfo> {
    let inner: HashMap<i32, u32> = seen.iter().map(|process| (process.outer, process.inner)).collect();
    let mut list: Vec<ProcessInfo> = seen
        .iter()
        .map(|ObservedProcess { inner: pid, uid, stat, command, .. }| ProcessInfo {
            pid: *pid,
            ppid: inner.get(&stat.ppid).copied().unwrap_or_default(),
            uid: *uid,
            user: users::name_or_uid(*uid, passwd),
            state: stat.state.clone(),
            tty: terminal_name(stat.terminal),
            cpu_micros: stat.cpu_micros,
            elapsed_seconds: ((uptime * USER_HZ as f64) as u64).saturating_sub(stat.started) * TICK_MICROS
                / 1_000_000,
            rss_bytes: stat.rss_pages.saturating_mul(PAGE_BYTES),
            command: command_line(command, &stat.name),
        })
        .collect();
    list.sort_by_key(|process| process.pid);
    list
}

/// The name of the terminal with a device number.
fn terminal_name(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

fn command_line(bytes: &str, name: &str) -> String {
    let line = bytes.trim_end_matches('\0').replace('\0', " ");
    if line.is_empty() { format!("[{name}]") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_have_names() {
        assert_eq!(
            (terminal_name(0), terminal_name(34816), terminal_name(34819)),
            ("?".into(), "pts/0".into(), "pts/3".into())
        );
    }

    #[test]
    fn a_command_line_has_spaces() {
        assert_eq!(command_line("sleep\x001000\x00", "sleep"), "sleep 1000");
        assert_eq!(command_line("", "kthread"), "[kthread]");
    }
}
