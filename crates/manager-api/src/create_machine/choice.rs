//! Choices among a few words.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a machine is started again after its container has exited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// The policy.
    pub policy: RestartKind,
    /// With `on-failure`: the number of restarts after which the machine is not started again. Default: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_retries: Option<u32>,
}

/// A restart policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartKind {
    /// Never.
    #[default]
    No,
    /// If the exit code is not zero.
    OnFailure,
    /// Unless a user has stopped it, and after a reboot of the host in any case.
    Always,
    /// Unless a user has stopped it, also after a reboot of the host.
    UnlessStopped,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If it is not in the manager's store.
    Missing,
    /// If the registry has another image by that name than the store.
    Newer,
    /// Never: it must be in the store.
    Never,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// KVM if it works, otherwise emulation.
    Auto,
    /// KVM.
    Kvm,
    /// Emulation by QEMU's TCG.
    Tcg,
}

/// What is mounted where an image declares a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageVolumes {
    /// An anonymous volume, which is removed with the machine.
    Anonymous,
    /// A temporary filesystem.
    Tmpfs,
    /// Nothing.
    Ignore,
}
