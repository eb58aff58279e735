//! Pulls real images into a real store and reads the filesystems back with e2fsprogs.

mod support;

mod blank;
mod content;
