//! The agent's program, which is embedded in mimeo.

use std::sync::OnceLock;

/// `mimeo-agent`, a static program: PID 1 of every guest.
pub const BYTES: &[u8] = include_bytes!(env!("MIMEO_AGENT"));

/// Identifies this agent: the BLAKE3 hash of its bytes, in hexadecimal.
pub(crate) fn digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| blake3::hash(BYTES).to_hex().to_string())
}
