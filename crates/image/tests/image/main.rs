//! Pulls real images into a real store and checks the filesystems with e2fsprogs.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod support;

mod archives;
mod blank;
mod content;
mod export;
mod faults;
mod hostile;
mod overlay;
mod push;
mod registry;
mod store;
