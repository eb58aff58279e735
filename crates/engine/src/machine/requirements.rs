//! What a snapshot of a machine requires of a host.

use mimeo_vmm::Accelerator;
use serde::{Deserialize, Serialize};

/// What a host must have to run copies of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// The driver.
    pub driver: String,
    /// Its monitor's version.
    pub version: String,
    /// The machine's devices and settings, in the driver's words.
    pub shape: String,
    /// What ran its instructions.
    pub accelerator: Accelerator,
    /// The host's processor, by the kernel's name for it.
    pub cpu: String,
    /// The guest's kernel, by its name here.
    pub kernel: String,
    /// SHA-256 of that kernel's file.
    pub kernel_sha256: String,
    /// BLAKE3 of the agent in it.
    pub agent_blake3: String,
    /// What that agent speaks.
    pub protocol: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}
