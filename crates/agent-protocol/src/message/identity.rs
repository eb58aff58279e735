//! The identity that makes a clone a machine of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Interface;

/// Everything that distinguishes a clone from its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The clone's VM generation: a UUID, new at every restore.
    #[serde(rename = "generation")]
    pub vm_generation: String,
    /// The machine's id, 64 hexadecimal digits.
    pub machine: String,
    /// Its host name.
    pub hostname: String,
    /// Nanoseconds since 1970, by the host's clock.
    pub unix_nanos: u64,
    /// 32 random bytes from the host, as 64 hexadecimal digits.
    pub entropy: String,
    /// Its NIC, if it has one. The MAC address replaces the one of the source.
    pub interface: Option<Interface>,
    /// Name servers, in order.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Additional entries for /etc/hosts: name -> address.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// The new content of /run/mimeo/env: `KEY=VALUE` lines. A value of several
    /// lines is in double quotes, with `\n`, `\"` and `\\`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A signal for the container's own process. It is delivered at the thaw.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Resume the workload after the last step.
    #[serde(default)]
    pub thaw: bool,
    /// This is a warm-up run: no program of the image is run, and no key is
    /// generated. The machines that are restored from it get identities of their own.
    #[serde(default, rename = "rehearsal")]
    pub warm_up: bool,
}

/// The outcome of one step of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStep {
    /// The step.
    #[serde(rename = "line")]
    pub step: Step,
    /// Its outcome.
    pub outcome: StepOutcome,
    /// Why it failed, or what it did, for people.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The steps of an identity, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reseed the kernel's CRNG with the host's entropy.
    Entropy,
    /// Write the clone's VM generation to /run/mimeo/generation.
    #[serde(rename = "generation")]
    VmGeneration,
    /// Set the wall clock to the host's.
    Clock,
    /// Set the host name, /etc/hosts, /etc/resolv.conf, the machine id and the boot id.
    Names,
    /// Set the NIC's MAC address, its IP address and its routes.
    Network,
    /// Destroy the source's TCP connections; listening sockets stay.
    Connections,
    /// Generate new SSH host keys, where the source has any.
    SshKeys,
    /// Write the clone's environment to /run/mimeo/env.
    Environment,
    /// Run the programs in /etc/mimeo/clone.d, and send the signal.
    Hooks,
    /// Resume the workload.
    Thaw,
    /// A step that this side does not know.
    #[serde(other)]
    Unknown,
}

impl Step {
    /// All steps that this side knows, in order.
    pub const ALL: [Self; 10] = [
        Self::Entropy,
        Self::VmGeneration,
        Self::Clock,
        Self::Names,
        Self::Network,
        Self::Connections,
        Self::SshKeys,
        Self::Environment,
        Self::Hooks,
        Self::Thaw,
    ];
}

/// The outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The step succeeded.
    Done,
    /// There was nothing to do.
    NotNeeded,
    /// The step failed; the workload stays frozen.
    Failed,
    /// An earlier step failed.
    NotTried,
    /// An outcome that this side does not know. It does not count as success.
    #[serde(other)]
    Unknown,
}
