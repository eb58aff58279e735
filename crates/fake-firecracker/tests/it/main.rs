//! Tests of the Firecracker driver, on the fake and on a real Firecracker.

mod api;
mod directories;
mod faults;
mod fence;
mod harness;
mod jails;
mod killed;
mod links;
mod networks;
mod pager;
mod snapshots;
mod versions;
