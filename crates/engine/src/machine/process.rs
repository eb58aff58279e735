//! Identifies a process by PID, start time and boot.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process. PIDs are reused, and start over after a reboot; PID, start time and boot id together are
/// unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The PID.
    pub pid: u32,
    /// The start time in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_time: u64,
    /// The id of the boot in which it was started (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
}

impl ProcessIdentity {
    /// Identifies the current process.
    #[must_use]
    pub fn own() -> Self {
        Self::from_pid(std::process::id()).unwrap_or(Self {
            pid: std::process::id(),
            start_time: 0,
            boot_id: boot_id(),
        })
    }

    /// Identifies the process that has this PID now.
    #[must_use]
    pub fn from_pid(pid: u32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)?, boot_id: boot_id() })
    }

    /// Returns whether this very process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id() && start_time(self.pid) == Some(self.start_time)
    }
}

impl ProcessIdentity {
    /// Sends the process a signal. If it has ended, nothing is sent and that is no error.
    ///
    /// # Errors
    /// If the kernel refuses because permission is missing.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid as i32) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        // Checked after the pidfd was opened: the process found alive is the one that gets the signal.
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(process, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Returns this boot's id; empty if the kernel does not provide it.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Returns the start time of a running process. A zombie counts as ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, including parentheses and spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_identified_by_pid_start_time_and_boot() {
        let own = ProcessIdentity::own();
        assert!(own.is_alive());
        assert!(!ProcessIdentity { start_time: own.start_time + 1, ..own.clone() }.is_alive());
        assert!(!ProcessIdentity { boot_id: "another".into(), ..own }.is_alive());
    }
}
