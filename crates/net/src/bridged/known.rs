//! Whether the host's table is as it was made: known by a number that each change of any rules on the host raises.
//!
//! To apply the table anew for each machine is as right, and takes a program's start.

use std::fs;

use rustix::fs::stat;

/// Where the number is. It is written by who holds the bridge's lock.
const FILE: &str = "/run/mimeo-bridged.rules";
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The state in which the table was as it should be, in the network namespace of this thread.
pub(crate) fn generation() -> Option<u32> {
    let text = fs::read_to_string(FILE).ok()?;
    let (namespace, generation) = text.strip_suffix('\n')?.split_once(' ')?;
    (namespace == here()?).then(|| generation.parse().ok())?
}

/// Notes that the table is as it should be, if nobody else changed rules meanwhile: then `found` is what was expected.
pub(crate) fn set(expected: u32, found: u32) {
    let text = here().filter(|_| expected == found).map(|here| format!("{here} {found}\n"));
    // A number that is not there costs the next machine some time.
    match text {
        Some(text) => fs::write(FILE, text).unwrap_or_default(),
        None => forget(),
    }
}

/// Notes that nothing is known.
pub(crate) fn forget() {
    fs::remove_file(FILE).unwrap_or_default();
}

/// What tells this network namespace from others.
fn here() -> Option<String> {
    let found = stat(NAMESPACE).ok()?;
    Some(format!("{}:{}", found.st_dev, found.st_ino))
}
