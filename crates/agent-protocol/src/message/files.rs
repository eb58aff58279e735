//! Files of a container.

use serde::{Deserialize, Serialize};

/// A file, as a directory lists it: links are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its name, without its directory; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// Its type.
    pub kind: FileType,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content was changed, in nanoseconds since 1970.
    pub modified_nanos: i64,
    /// Where it leads, if it is a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A type that this side does not know.
    #[serde(other)]
    Unknown,
}

/// A new file or directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// Absolute path in the container.
    pub path: String,
    /// Its permission bits. Absent: those of the file that is replaced; else 0644, for a directory 0755.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Its owner. Absent: that of the file that is replaced; else root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Create the directories above it that do not exist, as root's, with mode 0755. A directory may exist already.
    #[serde(default)]
    pub parents: bool,
}
