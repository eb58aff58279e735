//! The guest's console: one line per event, for people.

use std::io::Write;

/// Writes one line. The kernel gave us the console as standard error.
pub(crate) fn log(event: &str) {
    // A console that cannot be written leaves nobody to tell.
    std::io::stderr().write_all(format!("mimeo-agent: {event}\n").as_bytes()).ok();
}
