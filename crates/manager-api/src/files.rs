//! Files of a container.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileItem {
    /// Its name, without its directory; bytes that are no UTF-8 are replaced by U+FFFD.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits, as an octal number.
    pub mode: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content was changed.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// Where it leads, if it is a symbolic link.
    pub target: Option<String>,
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO or a socket.
    Other,
}

/// A request for a new directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MakeDirectory {
    /// Its absolute path in the container.
    pub path: String,
    /// Its permission bits, as an octal number; 0755 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its owner; root by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group; root's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Create the directories above it, too, as root's. It may exist already.
    pub parents: bool,
}
