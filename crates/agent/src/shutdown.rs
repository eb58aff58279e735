//! `shutdown`: ends all processes, flushes, and powers off.

use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::link::Stream;
use mimeo_agent_protocol::message::{Failure, Reply};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use crate::blocking::run_blocking;
use crate::console::log;
use crate::disk_volume::DISKS;
use crate::failure::chain;
use crate::machine::{Machine, State};
use crate::rootfs::{ROOT, WRITABLE};
use crate::{cgroup, vsock};

/// Timeout until killed processes have ended: one may hang in a volume that is no longer served.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Time for the reply to be written to the port: the device takes it at once.
const REPLY_FLUSH_DELAY: Duration = Duration::from_millis(10);

/// Ends the machine.
pub(crate) async fn handle_stream(machine: &Arc<Machine>, stream: Stream) {
    log("shutting down");
    let is_system = machine.is_system();
    if is_system {
        freeze_system().await;
    }
    end_processes(machine).await;
    if let State::Running(container) | State::Ended(container) = machine.state() {
        container.attachment.close();
    }
    // Only the agent holds the container's namespaces now: dropping them unmounts the volumes.
    machine.set_state(State::Booted);
    if let Err(failed) = run_blocking(if is_system { flush_system } else { flush }).await {
        log(&chain(&failed));
    }
    stream.sender.message(&Reply::Done);
    tokio::time::sleep(REPLY_FLUSH_DELAY).await;
    power_off();
}

/// Freezes a whole system that has not powered off by itself: nothing writes to its disk any more.
async fn freeze_system() {
    if let Err(failed) = run_blocking(|| cgroup::freeze(true)).await {
        log(&failed.to_string());
    }
}

/// Writes everything to the disks, and has the kernel mount all of them read-only, so that no journal is left to replay.
fn flush_system() -> Result<(), Failure> {
    rustix::fs::sync();
    if let Err(error) = std::fs::write("/proc/sysrq-trigger", "u") {
        log(&format!("cannot mount the disks read-only: {error}"));
    }
    Ok(())
}

async fn end_processes(machine: &Machine) {
    let deadline = tokio::time::Instant::now() + KILL_TIMEOUT;
    loop {
        // Signals all processes but the agent; fails when there is none.
        kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
        if machine.reaper.reap() {
            return;
        }
        if tokio::time::Instant::now() > deadline {
            return log("some processes did not end");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn flush() -> Result<(), Failure> {
    rustix::fs::sync();
    for target in [ROOT, WRITABLE, DISKS] {
        if let Err(errno) = unmount_below(target) {
            log(&format!("cannot unmount {target}: {errno}"));
        }
    }
    Ok(())
}

/// Unmounts everything below a path, deepest first, and what is mounted at the path itself.
pub(crate) fn unmount_below(target: &str) -> rustix::io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_below =
        |path: &&str| path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let targets: Vec<&str> =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(is_below).collect();
    let mut unmounted = Ok(());
    for path in targets.iter().rev() {
        // One that stays mounted does not keep the others from being unmounted.
        unmounted = unmounted.and(unmount(unescape(path), UnmountFlags::empty()));
    }
    unmounted
}

/// A path as the kernel prints it: blanks, tabs, line feeds and backslashes are three octal digits after a backslash.
fn unescape(path: &str) -> Vec<u8> {
    let mut rest = path.as_bytes();
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    plain
}

/// Powers the machine off. Returns only when the kernel cannot.
pub(crate) fn power_off() {
    // Firecracker, the VMM whose link is a vsock, cannot power off: it ends
    // when its guest reboots.
    let command = if vsock::has_device() { RebootCommand::Restart } else { RebootCommand::PowerOff };
    if let Err(errno) = reboot(command) {
        log(&format!("cannot power off: {errno}"));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_unescaped() {
        assert_eq!(super::unescape(r"/a\040b\134c\9"), br"/a b\c\9");
    }
}
