//! The GUID partition table.

use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, read_header_from_arbitrary_device};
use gpt::partition::file_read_partitions;

use super::{Partition, TableError, check_end, in_bytes};
use crate::window::Window;

const BLOCK: LogicalBlockSize = LogicalBlockSize::Lb512;
/// The size of an entry. The crate panics on others, which the standard permits and nobody uses.
const ENTRY_BYTES: u32 = 128;
/// More than any table has; Linux numbers partitions of virtio disks up to 255.
const MAX_ENTRIES: u32 = 1024;

/// Reads the partitions of the primary table.
pub(super) fn read(disk: &Window) -> Result<Vec<Partition>, TableError> {
    let mut device = disk.clone();
    let header = read_header_from_arbitrary_device(&mut device, BLOCK)
        .map_err(|error| TableError::Damaged { problem: format!("its GPT header: {error}") })?;
    check_header(disk, &header)?;
    let partitions = file_read_partitions(&mut device, &header, BLOCK)
        .map_err(|error| TableError::Damaged { problem: error.to_string() })?;
    let used = partitions.into_iter().filter(|(_, partition)| partition.is_used());
    used.map(|(number, partition)| {
        let sectors =
            partition.last_lba.checked_sub(partition.first_lba).and_then(|last| last.checked_add(1));
        let problem = || TableError::Damaged { problem: format!("partition {number} ends before it starts") };
        let bytes = in_bytes(sectors.ok_or_else(problem)?)?;
        Ok(Partition { number, start: in_bytes(partition.first_lba)?, bytes })
    })
    .collect()
}

/// Checks what the reader of the entries relies on, and that the disk has its end, where the backup table is.
fn check_header(disk: &Window, header: &Header) -> Result<(), TableError> {
    if header.part_size != ENTRY_BYTES || !(1..=MAX_ENTRIES).contains(&header.num_parts) {
        let problem = format!("{} entries of {} bytes are not supported", header.num_parts, header.part_size);
        return Err(TableError::Damaged { problem });
    }
    check_end(disk, "its partition table", in_bytes(header.backup_lba)?, in_bytes(1)?)
}
