//! `signal`: to the container's own process.
//!
//! The kernel drops a signal that the first process of a pid namespace neither
//! handles nor ignores. People expect of `sleep 1000` that it ends all the
//! same, so the agent does then what the signal does to any other process.
#![allow(unsafe_code, reason = "a signal by its number, through a pidfd, has no safe form")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Reply};

use crate::failure::{Context, failure};
use crate::machine::{Container, Machine};
use crate::procfs;

/// From one look at a process that was sent a signal to the next, in
/// milliseconds: soon, since people wait; and for a while, since emulation is slow.
const CHECK_DELAYS_MS: [u64; 7] = [10, 20, 40, 80, 150, 300, 600];

/// Sends a signal to the container.
pub(crate) fn handle(machine: &Machine, signal: i32) -> Result<Reply, Failure> {
    let container = machine.container()?;
    signal_container(&container, signal).map(|()| Reply::Done)
}

/// Sends a signal to the container's own process, or does what it means.
pub(crate) fn signal_container(container: &Arc<Container>, signal: i32) -> Result<(), Failure> {
    if !(0..=64).contains(&signal) {
        return Err(failure(FailureKind::Invalid, format!("no such signal: {signal}")));
    }
    let sent = match (handles_signal(container.pid, signal), default_action(signal)) {
        (false, Action::Terminate) => kill_container(container, signal),
        (false, Action::Stop) => send(&container.pidfd, libc::SIGSTOP),
        (true, Action::Terminate) => {
            tokio::spawn(kill_unless_handled(container.clone(), signal));
            send(&container.pidfd, signal)
        }
        (true, _) | (_, Action::None) => send(&container.pidfd, signal),
    };
    Ok(sent.context("send the signal")?)
}

/// Ends the container's process in the name of a signal.
fn kill_container(container: &Container, signal: i32) -> io::Result<()> {
    container.killed_for().get_or_insert(signal);
    send(&container.pidfd, libc::SIGKILL)
}

/// A handler may end by handing the signal back: default action, and raise it
/// again, as shells and Python do. The kernel drops that too for the first
/// process. So does it with a signal that came just before an exec. A process
/// that cared and does not any more has done the one or the other.
async fn kill_unless_handled(container: Arc<Container>, signal: i32) {
    for millis in CHECK_DELAYS_MS {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        match std::fs::read_to_string(format!("/proc/{}/status", container.pid)) {
            Ok(status) if handles_signal(container.pid, signal) || procfs::is_pending(&status, signal) => {}
            // It is gone: nothing is left to end.
            Err(_) => return,
            Ok(_) => {
                // It may have ended this very moment.
                kill_container(&container, signal).ok();
                return;
            }
        }
    }
}

fn handles_signal(pid: i32, signal: i32) -> bool {
    // A process that is gone has no files, and sending will say so.
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    procfs::handles_signal(&read("status"), signal) || is_in_sigwait(&read("syscall"))
}

/// Whether a process sits in sigwait, as small inits do: what it waits for is
/// not shown as blocked meanwhile.
fn is_in_sigwait(syscall: &str) -> bool {
    syscall.split_ascii_whitespace().next() == Some(&libc::SYS_rt_sigtimedwait.to_string())
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Terminate,
    Stop,
    None,
}

/// What a signal does to a process that says nothing about it, by signal(7).
fn default_action(signal: i32) -> Action {
    match signal {
        0 | libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Action::None,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Action::Stop,
        _ => Action::Terminate,
    }
}

/// Sends a signal to one process, which cannot be mistaken for a later one.
pub(crate) fn send(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let no_details: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: takes a descriptor and numbers; no details are given.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_details, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_signals_terminate_a_process() {
        assert_eq!(default_action(libc::SIGTERM), Action::Terminate);
        assert_eq!(default_action(40), Action::Terminate);
        assert_eq!(default_action(libc::SIGWINCH), Action::None);
        assert_eq!(default_action(libc::SIGTSTP), Action::Stop);
    }

    #[test]
    fn an_init_in_sigwait_is_recognised() {
        assert!(is_in_sigwait("128 0x7ffc 0x0 0x0 0x8 0x0 0x0 0x7ffc 0x7f01\n"));
        assert!(!is_in_sigwait("61 0xffffffff 0x0\n") && !is_in_sigwait("running\n"));
    }
}
