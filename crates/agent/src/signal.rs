//! `signal`: sends a signal to the container's own process.
//!
//! The kernel drops a signal that PID 1 of a PID namespace neither handles nor
//! ignores. Users expect that `sleep 1000` ends all the same, so in this case the
//! agent applies the signal's default action itself.
#![allow(unsafe_code, reason = "sending a signal by its number through a pidfd has no safe form")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Reply};

use crate::failure::{Context, failure};
use crate::machine::{Container, Machine};
use crate::procfs;

/// Delays between checks of a process that was sent a signal, in milliseconds: short
/// at first, since users wait, and long in total, since emulation is slow.
const CHECK_DELAYS_MS: [u64; 7] = [10, 20, 40, 80, 150, 300, 600];

/// Samples of a process's state that must agree that it does not handle a signal.
const SAMPLES: u32 = 4;

/// Sends a signal to the container.
pub(crate) fn handle(machine: &Machine, signal: i32) -> Result<Reply, Failure> {
    let container = machine.container()?;
    signal_container(&container, signal).map(|()| Reply::Done)
}

/// Sends a signal to the container's own process, or applies its default action.
pub(crate) fn signal_container(container: &Arc<Container>, signal: i32) -> Result<(), Failure> {
    if !(0..=64).contains(&signal) {
        return Err(failure(FailureKind::Invalid, format!("invalid signal: {signal}")));
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

/// Kills the container's process in place of a signal.
fn kill_container(container: &Container, signal: i32) -> io::Result<()> {
    container.killed_for().get_or_insert(signal);
    send(&container.pidfd, libc::SIGKILL)
}

/// Kills the container's process if it stops handling a signal that was sent to it.
/// A handler may restore the default action and raise the signal again, as shells and
/// Python do; for PID 1 the kernel drops this signal too. It also drops one that
/// arrives just before an exec. A process that handled the signal and no longer does
/// has done one of the two.
async fn kill_unless_handled(container: Arc<Container>, signal: i32) {
    for millis in CHECK_DELAYS_MS {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        match std::fs::read_to_string(format!("/proc/{}/status", container.pid)) {
            Ok(status) if handles_signal(container.pid, signal) || procfs::is_pending(&status, signal) => {}
            // The process has ended.
            Err(_) => return,
            Ok(_) => {
                // Fails only if the process has ended just now.
                kill_container(&container, signal).ok();
                return;
            }
        }
    }
}

/// Whether a process handles, blocks or waits for a signal. One that waits in a loop may enter or leave sigwait between the
/// two reads of a sample, which then shows neither.
fn handles_signal(pid: i32, signal: i32) -> bool {
    (0..SAMPLES).any(|_| handles_signal_now(pid, signal))
}

fn handles_signal_now(pid: i32, signal: i32) -> bool {
    // A process that has ended has no files, and sending the signal reports that.
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    procfs::handles_signal(&read("status"), signal) || is_in_sigwait(&read("syscall"))
}

/// Whether a process is in sigwait, as small inits are: meanwhile the signals that it
/// waits for are not shown as blocked.
fn is_in_sigwait(syscall: &str) -> bool {
    syscall.split_ascii_whitespace().next() == Some(&libc::SYS_rt_sigtimedwait.to_string())
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Terminate,
    Stop,
    None,
}

/// A signal's default action, by signal(7).
fn default_action(signal: i32) -> Action {
    match signal {
        0 | libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => Action::None,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Action::Stop,
        _ => Action::Terminate,
    }
}

/// Sends a signal through a pidfd, which never refers to a later process with the same PID.
pub(crate) fn send(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let no_details: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: takes a descriptor and numbers; the siginfo is null.
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
