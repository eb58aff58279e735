//! Strict fakes of Firecracker and its jailer.
//!
//! It implements Firecracker's API: the same requests in the same order, with the same refusals in the same
//! words, for versions from 1.10 on. Its guest is an imitation of [`guest`]; behind its vsock is an echo. Its
//! snapshot files have the right sizes, and loading verifies that they are what was saved, down to each byte
//! of the memory.
//!
//! This crate holds the driver's tests: each runs on the fake, and on a real Firecracker if
//! `MIMEO_FIRECRACKER` names one.

mod arguments;
mod emulation;
mod fence;
pub mod guest;
mod http;
mod imitation;
pub mod jailer;
mod machine;
mod memory;
mod request;
pub mod run;
mod schema;
pub mod settings;
mod state;
mod tap;
mod version;
mod vsock;
