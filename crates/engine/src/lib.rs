//! mimeo's machines: create, monitor, list, stop.

pub mod setup;
