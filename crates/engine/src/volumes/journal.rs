//! Whether the ext4 filesystem of a volume's disk has a journal that must be replayed: the machine that mounted it last was
//! killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk_layers::layer_file_name;

/// Offset of the superblock in the filesystem.
const SUPERBLOCK: u64 = 1024;
/// Offset of the incompatible features in the superblock, and the flag of a journal that must be replayed.
const INCOMPATIBLE_FEATURES: u64 = 0x60;
const RECOVER: u32 = 0x4;
/// Offsets in a qcow2 header.
const CLUSTER_BITS: u64 = 20;
const L1_TABLE: u64 = 40;
/// The bits of an entry of a qcow2 table that are an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Reads the flag from the uppermost of the disk's layers that has the superblock.
pub(super) fn needs_recovery(dir: &Path, layers: u32) -> io::Result<bool> {
    for layer in (0..layers).rev() {
        let file = File::open(dir.join(layer_file_name(layer)))?;
        let start = if layer == 0 { Some(0) } else { first_cluster(&file)? };
        if let Some(start) = start {
            let mut features = [0; 4];
            file.read_exact_at(&mut features, start + SUPERBLOCK + INCOMPATIBLE_FEATURES)?;
            return Ok(u32::from_le_bytes(features) & RECOVER != 0);
        }
    }
    Ok(false)
}

/// Where the disk's first cluster is in a qcow2 file; `None` if it is in the layer below.
fn first_cluster(file: &File) -> io::Result<Option<u64>> {
    let cluster_bits = read_u32(file, CLUSTER_BITS)?;
    let l2_table = read_u64(file, read_u64(file, L1_TABLE)?)? & OFFSET;
    if l2_table == 0 {
        return Ok(None);
    }
    let cluster = read_u64(file, l2_table)? & OFFSET;
    // A smaller cluster would not hold the superblock.
    Ok(Some(cluster).filter(|offset| *offset != 0 && cluster_bits >= 12))
}

fn read_u32(file: &File, offset: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(file: &File, offset: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_layers::add_layer_file;

    const CLUSTER: u64 = 64 << 10;

    fn mark(path: &Path, start: u64, flags: u32) {
        let file = File::options().write(true).open(path).expect("opened");
        file.write_all_at(&flags.to_le_bytes(), start + SUPERBLOCK + INCOMPATIBLE_FEATURES).expect("written");
    }

    /// Has an overlay's first cluster at the end of the file, as QEMU does when it writes there.
    fn allocate(path: &Path) -> u64 {
        let file = File::options().read(true).write(true).open(path).expect("opened");
        let l1_table = read_u64(&file, L1_TABLE).expect("a header");
        let l2_table = file.metadata().expect("a file").len().next_multiple_of(CLUSTER);
        let cluster = l2_table + CLUSTER;
        file.set_len(cluster + CLUSTER).expect("extended");
        file.write_all_at(&(l2_table | 1 << 63).to_be_bytes(), l1_table).expect("written");
        file.write_all_at(&(cluster | 1 << 63).to_be_bytes(), l2_table).expect("written");
        cluster
    }

    #[test]
    fn the_flag_is_read_from_the_uppermost_layer_that_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let bytes = 64 << 20;
        let layer = |number: u32| dir.path().join(layer_file_name(number));
        File::create(layer(0)).expect("created").set_len(bytes).expect("extended");
        let needs_recovery = |layers| needs_recovery(dir.path(), layers).expect("read");
        assert!(!needs_recovery(1));
        mark(&layer(0), 0, 0x2c6);
        assert!(needs_recovery(1));
        add_layer_file(dir.path(), 1, bytes).expect("a layer");
        assert!(needs_recovery(2));
        let start = allocate(&layer(1));
        mark(&layer(1), start, 0x2c2);
        assert!(!needs_recovery(2));
        add_layer_file(dir.path(), 2, bytes).expect("a layer");
        assert!(!needs_recovery(3));
        mark(&layer(1), start, 0x2c6);
        assert!(needs_recovery(3));
    }
}
