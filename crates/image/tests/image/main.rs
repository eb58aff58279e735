//! Pulls real images into a real store and reads the filesystems back with e2fsprogs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod archives;
mod blank;
mod content;
mod faults;
mod hostile;
mod overlay;
mod registry;
mod store;
