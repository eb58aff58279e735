//! Partitions, numbered as Linux numbers them.

mod gpt;
mod mbr;

use std::io;

use crate::image::SECTOR;
use crate::window::Window;

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// Where it starts, in bytes.
    pub(crate) start: u64,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gpt,
    Mbr,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
        }
    }
}

/// A disk's partition table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) kind: Kind,
    pub(crate) partitions: Vec<Partition>,
}

/// Why a partition table is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the image ends at byte {disk}, but {what} ends at byte {end}: the image is truncated")]
    Truncated { what: String, end: u64, disk: u64 },
    #[error("the partition table is damaged: {problem}")]
    Damaged { problem: String },
    #[error("the partition table cannot be read")]
    Read(#[from] io::Error),
}

/// Reads the partition table; `None` if there is none, so that the disk may be one filesystem.
pub(crate) fn read(disk: &Window) -> Result<Option<Table>, TableError> {
    let Some(entries) = mbr::read_entries(disk, 0)? else { return Ok(None) };
    let (kind, partitions) = if entries.iter().any(mbr::Entry::is_protective) {
        (Kind::Gpt, gpt::read(disk)?)
    } else if entries.iter().any(mbr::Entry::is_used) {
        (Kind::Mbr, mbr::read(disk, &entries)?)
    } else {
        return Ok(None);
    };
    for partition in &partitions {
        check_end(disk, &format!("partition {}", partition.number), partition.start, partition.bytes)?;
    }
    Ok(Some(Table { kind, partitions }))
}

fn check_end(disk: &Window, what: &str, start: u64, bytes: u64) -> Result<(), TableError> {
    let end = start.saturating_add(bytes);
    if end > disk.bytes() {
        return Err(TableError::Truncated { what: what.to_owned(), end, disk: disk.bytes() });
    }
    Ok(())
}

/// A number of sectors in bytes.
fn in_bytes(sectors: u64) -> Result<u64, TableError> {
    let problem = || TableError::Damaged { problem: format!("sector {sectors} is out of range") };
    sectors.checked_mul(SECTOR).ok_or_else(problem)
}

#[cfg(test)]
mod tests;
