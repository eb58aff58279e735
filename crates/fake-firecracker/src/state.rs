//! Snapshot state files: their content and integrity.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Config;
use crate::version;

const MAGIC: u64 = 0x0fa4_efc0_0000_0001;
const CHECKSUM_BYTES: usize = 8;

/// The content of a state file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    magic: u64,
    format: String,
    pub(crate) config: Config,
    /// The digest of the memory that belongs to it.
    pub(crate) memory_digest: u64,
    /// The device state of an emulated guest, as saved by QEMU.
    #[serde(default)]
    pub(crate) devices: Vec<u8>,
}

impl State {
    pub(crate) fn new(version: &str, config: Config, memory_digest: u64) -> Self {
        Self {
            magic: MAGIC,
            format: version::state_format(version),
            config,
            memory_digest,
            devices: Vec::new(),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.extend(checksum(&bytes).to_le_bytes());
        let mut file = fs::File::create(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    }

    /// Loads a state file; errors are in Firecracker's words.
    pub(crate) fn load(path: &Path, version: &str) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| format!("Failed to open snapshot file: {error}"))?;
        Self::parse(&bytes, version).map_err(|why| format!("Failed to load snapshot state from file: {why}"))
    }

    fn parse(bytes: &[u8], version: &str) -> Result<Self, String> {
        let Some((text, rest)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err("IO Error: File too short to contain CRC".to_owned());
        };
        let state: Self = serde_json::from_slice(text)
            .map_err(|_| "An error occurred during bitcode serialization: bitcode error".to_owned())?;
        if state.magic != MAGIC {
            return Err(format!("Magic value does not match arch: {}", state.magic));
        }
        if state.format != version::state_format(version) {
            return Err(format!("Invalid data version: {}", state.format));
        }
        if checksum(text) != u64::from_le_bytes(*rest) {
            return Err("CRC64 validation failed".to_owned());
        }
        Ok(state)
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let step = |checksum: u64, byte: &u8| (checksum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
