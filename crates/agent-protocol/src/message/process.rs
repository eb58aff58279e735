//! Processes in a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Privileges;

/// A process to run in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments; the program is looked up in the process's PATH.
    pub args: Vec<String>,
    /// Environment. The agent sets HOME, PATH and TERM where they are absent.
    pub env: BTreeMap<String, String>,
    /// Working directory. For the container's own process it is created when absent, as podman does.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root.
    pub user: String,
    /// The size of its terminal, if it gets one.
    pub terminal: Option<TerminalSize>,
    /// Keep standard input open; otherwise it is /dev/null.
    pub stdin: bool,
    /// Run it as the child of a small init that reaps orphans (`start` only).
    #[serde(default)]
    pub init: bool,
    /// Run it in a cgroup outside the container's, so that it runs while the
    /// workload is frozen (`exec` only).
    #[serde(default)]
    pub aside: bool,
    /// What the container's processes may do (`start` only; an `exec`'d process gets what the container
    /// was started with). Absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
    /// Every capability in the bounding set (`exec` only).
    #[serde(default)]
    pub privileged: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// The guest's kernel killed it because memory ran out (OOM).
    OutOfMemory,
}

impl ExitStatus {
    /// The exit code that a shell would show: 128 plus the signal number for a signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory => 137,
        }
    }
}
