//! A strict fake of Firecracker, and one of its jailer.
//!
//! It speaks Firecracker's API: the same requests, the same order, the same
//! refusals in the same words, for the versions from 1.10 on. Its guest is
//! [`guest`], which it imitates; behind its vsock is an echo. What it saves has
//! the right sizes, and what it loads must be what was saved, down to each byte
//! of the memory.
//!
//! The tests of the driver are this crate's: each runs on the fake, and on a
//! real Firecracker where `MIMEO_FIRECRACKER` names one.

mod arguments;
mod emulation;
mod fence;
pub mod guest;
mod http;
mod imitation;
pub mod jailer;
mod machine;
mod pages;
mod request;
pub mod run;
mod schema;
pub mod settings;
mod state;
mod tap;
mod version;
mod vsock;
