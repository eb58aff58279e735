//! A volume in a container that is not a directory of the host.

use serde::{Deserialize, Serialize};

use crate::volumes::VolumeName;

/// A volume in a container, as the user requests it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeMount {
    /// The named volume. Without one the volume is anonymous: it is a part of the machine's own disk.
    pub name: Option<VolumeName>,
    /// Absolute path in the container.
    pub target: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Refuse to execute files of it.
    pub no_exec: bool,
    /// Heed set-user-ID bits.
    pub suid: bool,
    /// Allow device files.
    pub dev: bool,
    /// Leave a new volume empty, instead of giving it the image's content at that path.
    pub no_copy: bool,
}

/// What becomes of the volumes that an image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVolumes {
    /// They are anonymous volumes.
    #[default]
    Anonymous,
    /// They are temporary filesystems.
    Tmpfs,
    /// They are nothing special.
    Ignore,
}
