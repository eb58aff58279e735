//! The guest's half of mimeo, which travels inside it.

use std::sync::OnceLock;

/// `mimeo-agent`, a static program: PID 1 of every guest.
pub const BYTES: &[u8] = include_bytes!(env!("MIMEO_AGENT"));

/// What tells this agent from all others: BLAKE3 of its bytes, in hexadecimal.
pub(crate) fn digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| blake3::hash(BYTES).to_hex().to_string())
}
