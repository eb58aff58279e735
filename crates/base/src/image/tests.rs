use std::fs;

use imago::FormatDriverBuilder;
use imago::file::File as ImagoFile;
use imago::format::builder::FormatCreateBuilder;
use imago::qcow2::Qcow2 as ImagoQcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, Storage, StorageCreateOptions};

use super::*;
use crate::test_images::{MIB, Packing, Qcow2Image, put};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, content: &[u8]) -> PathBuf {
        let path = self.0.path().join("image");
        fs::write(&path, content).expect("written");
        path
    }

    /// The error for this content.
    fn refused(&self, content: &[u8]) -> String {
        let error = DiskImage::open(&self.write(content)).expect_err("refused");
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }
}

/// Bytes of which no cluster is like another.
fn content(bytes: u64) -> Vec<u8> {
    (0..bytes / 8).flat_map(|number| (number / 100).to_le_bytes()).collect()
}

fn ranges(image: &mut DiskImage) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(range) = image.next_data(from).expect("read") {
        from = range.end;
        found.push(range);
    }
    found
}

#[test]
fn a_raw_image_is_read_without_its_holes() {
    let files = Files::new();
    let path = files.write(&[]);
    crate::test_images::sparse(&path, 8 * MIB, &[(MIB, b"first"), (5 * MIB, b"second")]);
    let mut image = DiskImage::open(&path).expect("opened");
    assert_eq!((image.format(), image.bytes()), (Format::Raw, 8 * MIB));
    let found = ranges(&mut image);
    assert!(found.iter().all(|range| range.end - range.start < MIB), "{found:?}");
    let mut bytes = [0; 5];
    image.read_at(&mut bytes, MIB).expect("read");
    assert_eq!(&bytes, b"first");
    image.read_at(&mut bytes, 8 * MIB - 4).expect_err("beyond the end");
    image.read_at(&mut bytes, u64::MAX).expect_err("beyond the end");
}

#[test]
fn every_size_of_cluster_is_read() {
    let files = Files::new();
    let expected = content(3 * MIB + 512);
    for cluster_bits in [9, 12, 16, 21] {
        for packing in [Packing::Plain, Packing::Deflate, Packing::Zstd] {
            let writer = Qcow2Image { cluster_bits, bytes: 16 * MIB, ..Qcow2Image::new(3, packing) };
            let mut image = DiskImage::open(&files.write(&writer.write(&expected))).expect("opened");
            assert_eq!((image.format(), image.bytes()), (Format::Qcow2, 16 * MIB));
            let mut found = vec![1; expected.len()];
            image.read_at(&mut found, 0).expect("read");
            assert!(found == expected, "{cluster_bits} {packing:?}");
            let mut rest = vec![1; 512];
            image.read_at(&mut rest, 16 * MIB - 512).expect("read");
            assert_eq!(rest, [0; 512]);
        }
    }
}

#[test]
fn a_disk_may_end_within_a_cluster() {
    let files = Files::new();
    let expected = content(MIB + 512);
    for packing in [Packing::Plain, Packing::Deflate] {
        let mut image =
            DiskImage::open(&files.write(&Qcow2Image::new(3, packing).write(&expected))).expect("opened");
        assert_eq!(ranges(&mut image).last().map(|range| range.end), Some(MIB + 512));
        let mut found = vec![1; expected.len()];
        image.read_at(&mut found, 0).expect("read");
        assert!(found == expected, "{packing:?}");
    }
}

#[test]
fn what_another_implementation_writes_is_read() {
    let files = Files::new();
    let path = files.0.path().join("image");
    let storage = ImagoFile::create_open(StorageCreateOptions::new().filename(&path)).expect("created");
    let image = ImagoQcow2::<ImagoFile>::create_builder(storage)
        .size(64 * MIB)
        .create_open(DenyImplicitOpenGate::default(), |file| Ok(ImagoQcow2::builder(file).write(true)))
        .expect("formatted");
    let image = FormatAccess::new(image);
    let written = content(MIB + 1024);
    image.write(&written[..], 3 * MIB + 512).expect("written");
    image.write(&b"end!"[..], 64 * MIB - 4).expect("written");
    image.flush().expect("flushed");
    drop(image);
    let mut image = DiskImage::open(&path).expect("opened");
    let mut found = vec![1; 64 * MIB as usize];
    image.read_at(&mut found, 0).expect("read");
    let mut expected = vec![0; 64 * MIB as usize];
    put(&mut expected, 3 * MIB as usize + 512, &written);
    put(&mut expected, 64 * MIB as usize - 4, b"end!");
    assert!(found == expected);
    let data: u64 = ranges(&mut image).iter().map(|range| range.end - range.start).sum();
    assert!(data < 2 * MIB, "{data}");
}

#[test]
fn files_that_lead_elsewhere_are_refused() {
    let files = Files::new();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = Qcow2Image::new(3, Packing::Plain).write(&content(MIB));
        change(&mut file);
        files.refused(&file)
    };
    assert!(refused(&|file| put(file, 8, &600_u64.to_be_bytes())).contains("it has a backing file"));
    assert!(refused(&|file| file[79] = 1 << 2).contains("its data are in another file"));
    assert!(refused(&|file| file[79] = 1 << 1).contains("it is marked as corrupt"));
    assert!(refused(&|file| file[79] = 1 << 4).contains("extended L2 entries"));
    assert!(refused(&|file| file[78] = 1).contains("unknown features (0x100)"));
    assert!(refused(&|file| file[35] = 2).contains("it is encrypted"));
    assert!(refused(&|file| file[7] = 4).contains("version 4 of the format"));
    let backed = mimeo_overlay(MIB);
    assert!(files.refused(&backed).contains("it has a backing file"));
}

/// The header of an overlay as mimeo and QEMU write it: the backing file's name follows the header's extensions.
fn mimeo_overlay(bytes: u64) -> Vec<u8> {
    let mut file = Qcow2Image { bytes, ..Qcow2Image::new(3, Packing::Plain) }.write(&[]);
    put(&mut file, 8, &128_u64.to_be_bytes());
    put(&mut file, 16, &11_u32.to_be_bytes());
    put(&mut file, 128, b"/etc/shadow");
    file
}

#[test]
fn damaged_and_truncated_tables_are_refused() {
    let files = Files::new();
    let whole = Qcow2Image::new(3, Packing::Plain).write(&content(MIB));
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = whole.clone();
        change(&mut file);
        files.refused(&file)
    };
    for keep in [40, 100, 70_000, 140_000, whole.len() - 1] {
        assert!(refused(&|file| file.truncate(keep)).contains("it is truncated"), "{keep}");
    }
    assert!(refused(&|file| put(file, 20, &8_u32.to_be_bytes())).contains("clusters have 2^8 bytes"));
    assert!(refused(&|file| put(file, 20, &64_u32.to_be_bytes())).contains("clusters have 2^64 bytes"));
    assert!(refused(&|file| put(file, 36, &0_u32.to_be_bytes())).contains("its L1 table has 0 entries"));
    assert!(refused(&|file| put(file, 40, &u64::MAX.to_be_bytes())).contains("the L1 table is out of range"));
    assert!(refused(&|file| put(file, 24, &(17_u64 << 40).to_be_bytes())).contains("at most"));
    assert!(refused(&|file| put(file, 24, &0_u64.to_be_bytes())).contains("is not a positive multiple"));
    let l2 = 2 << 16;
    assert!(
        refused(&|file| put(file, l2, &(1_u64 << 50).to_be_bytes())).contains("it is truncated: a cluster")
    );
    assert!(refused(&|file| put(file, l2, &(5_u64 << 9).to_be_bytes())).contains("cluster 0 is not aligned"));
    assert!(
        refused(&|file| put(file, 1 << 16, &(1_u64 << 50).to_be_bytes())).contains("truncated: an L2 table")
    );
}

#[test]
fn a_small_file_is_no_large_disk() {
    let files = Files::new();
    let writer = Qcow2Image { bytes: 8 << 30, ..Qcow2Image::new(3, Packing::Plain) };
    let mut file = writer.write(&content(MIB));
    let first = file[2 << 16..][..8].to_vec();
    for entry in 0..8192 {
        put(&mut file, (2 << 16) + entry * 8, &first);
    }
    assert!(files.refused(&file).contains("share a cluster"));
    let mut file = Qcow2Image { bytes: 1 << 40, ..writer }.write(&content(MIB));
    let first = file[1 << 16..][..8].to_vec();
    for entry in 0..2048 {
        put(&mut file, (1 << 16) + entry * 8, &first);
    }
    assert!(files.refused(&file).contains("share an L2 table"));
}

#[test]
fn compressed_clusters_that_are_damaged_are_errors() {
    let files = Files::new();
    for packing in [Packing::Deflate, Packing::Zstd] {
        let mut file = Qcow2Image::new(3, packing).write(&content(MIB));
        let end = file.len();
        file[3 << 16..end].fill(0xff);
        let mut image = DiskImage::open(&files.write(&file)).expect("opened");
        let error = image.read_at(&mut [0; 512], 0).expect_err("damaged");
        assert!(matches!(error, ImageError::Qcow2 { source: Qcow2Error::Damaged { .. }, .. }), "{error:?}");
    }
}

#[test]
fn other_files_are_named() {
    let files = Files::new();
    assert!(
        files.refused(b"\xfd7zXZ\0rest").contains("it is an xz archive: decompress it first with `unxz`")
    );
    assert!(files.refused(b"KDMVrest").contains("a VMDK image: convert it first"));
    assert!(files.refused(b"").contains("0 bytes, is not a positive multiple of 512"));
    let error = DiskImage::open(files.0.path()).expect_err("a directory");
    assert!(matches!(error, ImageError::NotAFile { .. }), "{error}");
    let fifo = files.0.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
    let error = DiskImage::open(&fifo).expect_err("a FIFO");
    assert!(matches!(error, ImageError::NotAFile { .. }), "{error}");
}

#[test]
fn a_change_of_the_file_is_noticed() {
    let files = Files::new();
    let path = files.write(&[1; 1024]);
    let image = DiskImage::open(&path).expect("opened");
    assert!(image.is_unchanged().expect("asked"));
    fs::write(&path, [2; 2048]).expect("written");
    assert!(!image.is_unchanged().expect("asked"));
}
