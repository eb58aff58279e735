use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::image::DiskImage;
use crate::test_images::{MIB, gpt_image, mbr, mbr_entry, put, sign_gpt_header, sparse};

fn read_file(path: &Path) -> Result<Option<Table>, TableError> {
    read(&Window::whole(Rc::new(RefCell::new(DiskImage::open(path).expect("opened")))))
}

/// The partitions of a disk of 64 MiB with these sectors.
fn read_sectors(sectors: &[(u64, Vec<u8>)]) -> Result<Option<Table>, TableError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    let contents: Vec<_> = sectors.iter().map(|(sector, bytes)| (sector * 512, &bytes[..])).collect();
    sparse(&path, 64 * MIB, &contents);
    read_file(&path)
}

fn numbers(table: Option<Table>) -> Vec<(u32, u64, u64)> {
    let partitions = table.expect("a table").partitions;
    partitions.iter().map(|found| (found.number, found.start / 512, found.bytes / 512)).collect()
}

#[test]
fn a_gpt_is_read_with_its_gaps() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    gpt_image(&[(15, &[1; 4096]), (1, &[2; 1 << 20])], &path);
    let table = read_file(&path).expect("read").expect("a table");
    assert_eq!(table.kind, Kind::Gpt);
    assert_eq!(numbers(Some(table)), [(1, 4096, 2048), (15, 2048, 8)]);
}

#[test]
fn hostile_gpts_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    gpt_image(&[(1, &[2; 1 << 20])], &path);
    let good = fs::read(&path).expect("read");
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut disk = good.clone();
        change(&mut disk);
        sign_gpt_header(&mut disk);
        fs::write(&path, disk).expect("written");
        read_file(&path).expect_err("refused").to_string()
    };
    assert!(
        refused(&|disk| put(disk, 512 + 84, &256_u32.to_le_bytes()))
            .contains("of 256 bytes are not supported")
    );
    assert!(refused(&|disk| put(disk, 512 + 80, &u32::MAX.to_le_bytes())).contains("are not supported"));
    assert!(refused(&|disk| put(disk, 512 + 72, &u64::MAX.to_le_bytes())).contains("damaged"));
    assert!(
        refused(&|disk| put(disk, 512 + 32, &(1_u64 << 40).to_le_bytes())).contains("the image is truncated")
    );
    assert!(refused(&|disk| put(disk, 1024 + 40, &99_u64.to_le_bytes())).contains("CRC mismatch"));
    assert!(refused(&|disk| put(disk, 512, b"no signature")).contains("its GPT header"));
}

#[test]
fn logical_partitions_have_numbers_from_five() {
    let table = read_sectors(&[
        (0, mbr(&[mbr_entry(0x83, 2048, 2048), [0; 16], mbr_entry(0x05, 8192, 8192)])),
        (8192, mbr(&[mbr_entry(0x83, 64, 100), mbr_entry(0x05, 1024, 200)])),
        (8192 + 1024, mbr(&[mbr_entry(0x82, 64, 100)])),
    ]);
    assert_eq!(numbers(table.expect("read")), [(1, 2048, 2048), (5, 8256, 100), (6, 9280, 100)]);
}

#[test]
fn hostile_mbrs_are_refused() {
    let chain = [
        (0, mbr(&[mbr_entry(0x0f, 8192, 8192)])),
        (8192, mbr(&[mbr_entry(0x83, 64, 100), mbr_entry(0x05, 0, 200)])),
    ];
    let error = read_sectors(&chain).expect_err("a loop");
    assert!(error.to_string().contains("more than 100 logical partitions"), "{error}");
    for entry in [mbr_entry(0x83, 2048, 1 << 20), mbr_entry(0x83, u32::MAX, u32::MAX)] {
        let error = read_sectors(&[(0, mbr(&[entry]))]).expect_err("beyond the end");
        assert!(matches!(error, TableError::Truncated { .. }), "{error}");
    }
}

#[test]
fn a_disk_without_a_table_is_one_filesystem() {
    assert_eq!(read_sectors(&[]).expect("read"), None);
    assert_eq!(read_sectors(&[(0, mbr(&[]))]).expect("read"), None);
    let mut boot_sector = mbr(&[]);
    boot_sector[446] = b'N';
    assert_eq!(read_sectors(&[(0, boot_sector)]).expect("read"), None);
}
