//! Tests on real virtual machines, one file for each thing that must work.

mod agent;
mod bad_input;
mod bridged;
mod clones;
mod firecracker;
mod forks;
mod hangs;
mod identity;
mod images;
mod manage;
mod monitor;
mod network;
mod run;
mod runtime;
mod serves;
mod setup;
mod snapshots;
mod stencils;
mod volumes;
