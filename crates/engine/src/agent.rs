//! The guest's half of mimeo, which travels inside it.

/// `mimeo-agent`, a static program: PID 1 of every guest.
pub const BYTES: &[u8] = include_bytes!(env!("MIMEO_AGENT"));
