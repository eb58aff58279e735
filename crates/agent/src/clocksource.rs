//! The kernel's clock source.

use std::time::{Duration, Instant};

use crate::console::log;
use crate::failure::{Context, SystemError};

const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// The TSC, until the kernel has measured its frequency for a second.
const PRELIMINARY: &str = "tsc-early";
/// More than that second.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the kernel has registered the TSC. Else each machine that is restored from this guest does it again
/// while its container starts, and stops all its CPUs for it.
pub(crate) fn wait_until_registered() -> Result<(), SystemError> {
    let end = Instant::now() + REGISTER_TIMEOUT;
    while std::fs::read_to_string(CURRENT).context(format!("read {CURRENT}"))?.trim() == PRELIMINARY {
        if Instant::now() > end {
            log("the TSC is still a preliminary clock source");
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
