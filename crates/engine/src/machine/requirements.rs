//! What a host needs to restore a snapshot of a machine.

use mimeo_vmm::Accelerator;
use serde::{Deserialize, Serialize};

/// What a host needs to run clones of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// The driver.
    pub driver: String,
    /// The VMM's version.
    pub version: String,
    /// The machine's devices and settings, as a string that the driver defines.
    pub shape: String,
    /// What executed the guest's instructions.
    pub accelerator: Accelerator,
    /// The host's CPU model, as the kernel reports it.
    pub cpu: String,
    /// The guest kernel's name in mimeo's home.
    pub kernel: String,
    /// SHA-256 of the guest kernel's file.
    pub kernel_sha256: String,
    /// BLAKE3 of the agent in the guest.
    pub agent_blake3: String,
    /// The version of that agent's protocol.
    pub protocol: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}
