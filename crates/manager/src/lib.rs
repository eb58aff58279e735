//! The manager.

pub mod convert;
