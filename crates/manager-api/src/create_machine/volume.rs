//! Mounts of a container.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_false;

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Volume {
    /// A directory or file of the manager's host, for administrators.
    Bind {
        /// Absolute path on the manager's host.
        source: String,
        /// Absolute path in the container.
        target: String,
        /// Refuse writes.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
    },
    /// A named volume, or an anonymous one, which is removed with the machine.
    Volume {
        /// The volume's name. It is created if it does not exist. Absent: an anonymous volume.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Absolute path in the container.
        target: String,
        /// Refuse writes.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Refuse to execute files of it.
        #[serde(default, skip_serializing_if = "is_false")]
        no_exec: bool,
        /// Heed setuid bits.
        #[serde(default, skip_serializing_if = "is_false")]
        suid: bool,
        /// Allow device files.
        #[serde(default, skip_serializing_if = "is_false")]
        dev: bool,
        /// Leave a new volume empty, instead of giving it the image's content at that path.
        #[serde(default, skip_serializing_if = "is_false")]
        no_copy: bool,
    },
    /// A temporary filesystem.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// tmpfs's own options: `size`, `mode`, `uid`, `gid` and `nr_inodes`, as in `size=1m,mode=700`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        options: String,
        /// Refuse writes.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Refuse to execute files of it.
        #[serde(default, skip_serializing_if = "is_false")]
        no_exec: bool,
        /// Heed setuid bits.
        #[serde(default, skip_serializing_if = "is_false")]
        suid: bool,
        /// Allow device files.
        #[serde(default, skip_serializing_if = "is_false")]
        dev: bool,
        /// Start empty, instead of with the image's content at that path.
        #[serde(default, skip_serializing_if = "is_false")]
        no_copy: bool,
    },
}
