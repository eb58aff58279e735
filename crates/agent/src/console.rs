//! Logs to the guest's console, one line per event.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

const CONSOLE: &str = "/dev/console";

/// Writes one line without blocking: the agent's only thread must not wait for a host that does not read
/// the console.
pub(crate) fn log(event: &str) {
    let line = format!("mimeo-agent: {event}\n");
    match console() {
        // A line that does not fit is lost.
        Some(console) => drop(rustix::io::write(console, line.as_bytes())),
        // The kernel opened the console as standard error. When that fails too, the line is lost.
        None => drop(std::io::stderr().write_all(line.as_bytes())),
    }
}

/// Writes the last line before the power-off, and waits until it is written.
pub(crate) fn log_last(event: &str) {
    drop(std::io::stderr().write_all(format!("mimeo-agent: {event}\n").as_bytes()));
}

/// A separate open file of the console, which is non-blocking. The kernel's, which programs may have as
/// their streams, stays blocking.
fn console() -> Option<&'static OwnedFd> {
    static CONSOLE_FILE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    CONSOLE_FILE.get_or_init(|| open_nonblocking(CONSOLE)).as_ref()
}

fn open_nonblocking(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn an_unread_console_does_not_block_its_writer() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let host = openpt(flags).expect("a terminal");
        grantpt(&host).and_then(|()| unlockpt(&host)).expect("unlocked");
        let name = ptsname(&host, Vec::new()).expect("a name").into_string().expect("text");
        let console = open_nonblocking(&name).expect("opened");
        let written = (0..1 << 20).find(|_| rustix::io::write(&console, &[b'x'; 64]).is_err());
        assert!(written.is_some(), "the console never fills up");
    }
}
