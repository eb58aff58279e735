//! The master boot record, with logical partitions in an extended one.

use std::io;

use super::{Partition, TableError, in_bytes};
use crate::window::Window;

const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
/// Types of entries: the one that protects a GPT, and extended partitions.
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const FIRST_LOGICAL: u32 = 5;
/// A chain of logical partitions that is longer is taken for a loop. Linux reads 100.
const MAX_LOGICAL: u32 = 100;

/// An entry of the table, in sectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    status: u8,
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Entry {
    fn parse(bytes: &[u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { status: bytes[0], kind: bytes[4], start: number(8), sectors: number(12) }
    }

    pub(super) fn is_protective(&self) -> bool {
        self.kind == PROTECTIVE
    }

    pub(super) fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind) && self.sectors != 0
    }

    fn partition(&self, number: u32, base: u64) -> Result<Partition, TableError> {
        let start = in_bytes(base + u64::from(self.start))?;
        Ok(Partition { number, start, bytes: in_bytes(u64::from(self.sectors))? })
    }
}

/// Reads the four entries in a sector; `None` if it is no boot record. The boot sector of a FAT filesystem has the
/// same signature, but other bytes where the entries would be.
pub(super) fn read_entries(disk: &Window, sector: u64) -> Result<Option<[Entry; 4]>, TableError> {
    let mut bytes = [0; 512];
    match disk.read_at(in_bytes(sector)?, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let entries =
        [0, 1, 2, 3].map(|slot| Entry::parse(&bytes[ENTRIES_AT + slot * ENTRY_BYTES..][..ENTRY_BYTES]));
    let is_record = bytes[510..] == SIGNATURE && entries.iter().all(|entry| entry.status & 0x7f == 0);
    Ok(is_record.then_some(entries))
}

/// The partitions that these primary entries describe.
pub(super) fn read(disk: &Window, entries: &[Entry; 4]) -> Result<Vec<Partition>, TableError> {
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries).filter(|(_, entry)| entry.is_used()) {
        if !entry.is_extended() {
            partitions.push(entry.partition(number, 0)?);
        }
    }
    if let Some(extended) = entries.iter().find(|entry| entry.is_extended()) {
        read_logical(disk, u64::from(extended.start), &mut partitions)?;
    }
    Ok(partitions)
}

/// Follows the chain of records: each describes one partition, and where the next record is.
fn read_logical(disk: &Window, extended: u64, partitions: &mut Vec<Partition>) -> Result<(), TableError> {
    let (mut record, mut number) = (extended, FIRST_LOGICAL);
    for _ in 0..MAX_LOGICAL {
        let Some(entries) = read_entries(disk, record)? else { return Ok(()) };
        for entry in entries.iter().filter(|entry| entry.is_used() && !entry.is_extended()) {
            partitions.push(entry.partition(number, record)?);
            number += 1;
        }
        let Some(next) = entries.iter().find(|entry| entry.is_extended()) else { return Ok(()) };
        record = extended + u64::from(next.start);
    }
    Err(TableError::Damaged { problem: format!("it has more than {MAX_LOGICAL} logical partitions") })
}
