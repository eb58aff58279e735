//! Remembers that mimeo's nftables table is up to date.
//!
//! The kernel counts every change of a network namespace's nftables rules, by any program (`NFT_MSG_GETGEN`). This file
//! keeps the count at which the table was last known to be complete. While the count has not moved, applying the table
//! again would change nothing, and would cost a start of the `nft` program.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

use rustix::fs::stat;

use super::rules::BASE;

/// Written only by the process that holds the bridge's lock.
const FILE: &str = "/run/mimeo-bridged.rules";
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The rule count at which the table was complete, in this thread's network namespace. `None` if it is unknown.
pub(crate) fn recorded() -> Option<u32> {
    let text = fs::read_to_string(FILE).ok()?;
    let (scope, count) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    (scope == self::scope()?).then(|| count.parse().ok())?
}

/// Records that the table is complete. `expected` is the count that this process's own change leads to: if `found`
/// differs, another program changed rules at the same time, and nothing is recorded.
pub(crate) fn record(expected: u32, found: u32) {
    let text = scope().filter(|_| expected == found).map(|scope| format!("{scope} {found}\n"));
    match text {
        // Without a record the next machine applies the table again, which is correct, only slower.
        Some(text) => fs::write(FILE, text).unwrap_or_default(),
        None => clear(),
    }
}

/// Removes the record.
pub(crate) fn clear() {
    // Usually the file is absent, or its directory is not writable, in which case the file was never created.
    fs::remove_file(FILE).unwrap_or_default();
}

/// What a record is valid for: this network namespace, and this version of the table.
fn scope() -> Option<String> {
    let found = stat(NAMESPACE).ok()?;
    let mut table = DefaultHasher::new();
    BASE.hash(&mut table);
    Some(format!("{}:{} {:016x}", found.st_dev, found.st_ino, table.finish()))
}
