//! Waiting for a condition with a timeout, and signals.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for any step on a slow, shared machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Polls `probe` until it returns a value; panics with `condition` after a minute.
pub fn until<T>(condition: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "timeout after {} s: {condition}", WAIT_TIMEOUT.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a running child process.
pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id() as i32).expect("a process id");
    kill_process(pid, signal).expect("the process is running");
}
