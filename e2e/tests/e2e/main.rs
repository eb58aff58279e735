//! Tests on real virtual machines, one file per feature.

mod agent;
mod bad_input;
mod boot_snapshots;
mod bridged;
mod clones;
mod container_options;
mod copy;
mod exchange;
mod firecracker;
mod forks;
mod hangs;
mod identity;
mod images;
mod manage;
mod network;
mod run;
mod servers;
mod setup;
mod signals;
mod snapshots;
mod start;
mod stencils;
mod stopped_files;
mod supervisor;
mod volumes;
