//! A place in a file that may be rotated.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

/// Tells a file from all others, whatever its name: its inode number, which a later file may get again, and the time of
/// its creation, if the filesystem knows that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    inode: u64,
    created: u64,
}

impl FileId {
    pub(super) fn identify(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let created = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let created = created.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Ok(Self { inode: metadata.ino(), created })
    }
}

/// A place in a file that may be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The file.
    pub(crate) file: FileId,
    /// Bytes from its beginning.
    pub(crate) at: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file: FileId { inode, created }, at } = self;
        write!(f, "{inode:x}-{created:x}-{at:x}")
    }
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an offset of this machine's answers")]
pub(crate) struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let parse = |part: &str| u64::from_str_radix(part, 16).map_err(|_| ParsePositionError);
        let parts: Vec<_> = text.split('-').map(parse).collect::<Result<_, _>>()?;
        match parts[..] {
            [inode, created, at] => Ok(Self { file: FileId { inode, created }, at }),
            _ => Err(ParsePositionError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        let position = Position { file: FileId { inode: 7, created: u64::MAX }, at: 4096 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "-", "1-2", "1-2-3-4", "1-2-x", "-1-2-3", "10000000000000000-1-1"] {
            assert_eq!(bad.parse::<Position>(), Err(ParsePositionError), "{bad}");
        }
    }
}
