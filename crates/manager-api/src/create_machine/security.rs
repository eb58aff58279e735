//! What a container may do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_false;

/// What a container may do in its guest. No option gives it anything of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Give the container the whole guest: all capabilities and devices, writable /sys and kernel settings.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Linux capabilities to add to podman's default ones, such as `NET_ADMIN`, or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Default capabilities to drop, or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Programs gain no privileges by setuid bits or file capabilities.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// podman's security options: `no-new-privileges`, and those without effect in a machine (`label=disable`,
    /// `seccomp=unconfined`, `apparmor=unconfined`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Additional groups of the user, by name or number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Make the container's root filesystem read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// With `read_only`: mount temporary filesystems on /run, /tmp and /var/tmp. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_tmpfs: Option<bool>,
    /// The file mode creation mask in octal digits. Default: `0022`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-7]{1,4}$")]
    pub umask: Option<String>,
}
