//! The driver of Firecracker, on the fake and on the real thing.

mod api;
mod faults;
mod fence;
mod harness;
mod jails;
mod killed;
mod links;
mod networks;
mod pager;
mod places;
mod snapshots;
mod versions;
