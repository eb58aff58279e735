//! NoCloud seeds: the disk from which a guest's cloud-init takes its identity,
//! its network and its user-data.
//!
//! A seed is a small FAT filesystem with the label `CIDATA`. cloud-init's NoCloud
//! datasource reads seeds from FAT and ISO 9660 only; for FAT no guest needs a
//! CD-ROM driver.

mod check;
mod disk;
mod error;
mod metadata;
mod network;
mod seed;
mod user_data;

pub use error::SeedError;
pub use network::{Addressing, Interface, Network};
pub use seed::{MAX_SSH_KEYS, MAX_USER_DATA, MAX_VENDOR_DATA, Seed};
pub use user_data::UserDataKind;
