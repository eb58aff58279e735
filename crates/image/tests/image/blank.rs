//! Empty writable disks.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use mimeo_image::blank;

use crate::support::fsck;

#[test]
fn disks_of_all_sizes_are_clean_and_use_little_space() {
    let dir = tempfile::tempdir().unwrap();
    for mib in [16, 17, 100, 1024, 10 << 10, 100 << 10] {
        let path = dir.path().join(format!("{mib}.ext4"));
        let start = Instant::now();
        blank::create(&path, mib << 20, [mib as u8; 16]).unwrap();
        let took = start.elapsed();
        let meta = std::fs::metadata(&path).unwrap();
        println!("{mib} MiB: {took:?}, {} KiB on disk", meta.blocks() / 2);
        assert_eq!(meta.len(), mib << 20);
        assert!(meta.blocks() * 512 < 32 << 20, "{mib} MiB takes {} bytes", meta.blocks() * 512);
        fsck(&path);
    }
}

#[test]
fn disks_from_a_template_are_clean() {
    let dir = tempfile::tempdir().unwrap();
    let templates = dir.path().join("templates");
    for mib in [16, 10 << 10, 100 << 10] {
        for run in 0..3 {
            let path = dir.path().join(format!("{mib}-{run}.ext4"));
            let start = Instant::now();
            blank::create_from_template(&templates, &path, mib << 20).unwrap();
            println!("{mib} MiB, copy {run}: {:?}", start.elapsed());
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!(meta.len(), mib << 20);
            assert!(meta.blocks() * 512 < 2 << 20, "{mib} MiB takes {} bytes", meta.blocks() * 512);
        }
        fsck(&dir.path().join(format!("{mib}-2.ext4")));
    }
    assert_eq!(std::fs::read_dir(&templates).unwrap().count(), 3);
}

#[test]
fn impossible_sizes_and_existing_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    assert!(matches!(blank::create(&path, 1 << 20, [0; 16]), Err(blank::BlankError::Size { .. })));
    assert!(matches!(blank::create(&path, u64::MAX, [0; 16]), Err(blank::BlankError::Size { .. })));
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(blank::create(&path, 1 << 30, [0; 16]), Err(blank::BlankError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}
