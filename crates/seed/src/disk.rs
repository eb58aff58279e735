//! The seed's filesystem.

use std::io::{self, Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// cloud-init looks for `CIDATA` and `cidata`; FAT's labels are in upper case.
const LABEL: [u8; 11] = *b"CIDATA     ";
/// The same for all seeds, so that the same input has the same bytes.
const VOLUME_ID: u32 = 0x6d69_6d65;
const SECTOR: usize = 512;
/// The boot sector, the root directory, and a sector more for each allocation table.
const OVERHEAD: usize = (1 + 32 + 2) * SECTOR;
/// A cluster's entries in two allocation tables of FAT16; those of FAT12 are smaller.
const TABLES_PER_CLUSTER: usize = 2 * 2;
/// Sizes are multiples of this.
const STEP: usize = 64 << 10;

/// Writes files to a new filesystem with clusters of one sector: FAT12, or FAT16 from 2 MiB.
pub(crate) fn write(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut disk = vec![0; size(files)];
    let options = FormatVolumeOptions::new().bytes_per_cluster(512).volume_id(VOLUME_ID).volume_label(LABEL);
    fatfs::format_volume(Cursor::new(disk.as_mut_slice()), options)?;
    let filesystem = FileSystem::new(Cursor::new(disk.as_mut_slice()), FsOptions::new())?;
    for (name, content) in files {
        let mut file = filesystem.root_dir().create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    filesystem.unmount()?;
    Ok(disk)
}

fn size(files: &[(&str, &[u8])]) -> usize {
    let content: usize = files.iter().map(|(_, content)| content.len().next_multiple_of(SECTOR)).sum();
    let data = content.next_multiple_of(STEP);
    (data + data / SECTOR * TABLES_PER_CLUSTER + OVERHEAD).next_multiple_of(STEP)
}
