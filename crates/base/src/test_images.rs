//! Images for the tests, made with mke2fs and by hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::LINUX_FS;
use tempfile::TempDir;

use crate::store::Store;

pub(crate) const MIB: u64 = 1 << 20;

/// A store, and a directory for the test's files.
pub(crate) struct TestStore {
    dir: TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::at(&dir.path().join("bases")).expect("a store");
        Self { dir, store }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is in the store besides its lock.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.root()).expect("read");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".lock").collect()
    }
}

/// The files of a system by path; links begin with `->`.
pub(crate) type Files = BTreeMap<&'static str, Vec<u8>>;

/// The beginning of a program for this host, or for the machine with this number.
pub(crate) fn program(machine: Option<u16>) -> Vec<u8> {
    let own = fs::read("/proc/self/exe").expect("read");
    let mut header = own[..64].to_vec();
    if let Some(machine) = machine {
        header[18..20].copy_from_slice(&machine.to_le_bytes());
    }
    header
}

/// A Debian as its cloud images are, in what validation looks at.
pub(crate) fn debian() -> Files {
    let status = "Package: cloud-init\nStatus: install ok installed\nVersion: 22.4.2-1+deb12u3\n\n\
                  Package: systemd\nStatus: install ok installed\nVersion: 252.39-1~deb12u1\n";
    let os = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    Files::from([
        ("etc/os-release", b"->../usr/lib/os-release".to_vec()),
        ("usr/lib/os-release", os.into()),
        ("sbin", b"->usr/sbin".to_vec()),
        ("lib", b"->usr/lib".to_vec()),
        ("usr/sbin/init", b"->/lib/systemd/systemd".to_vec()),
        ("usr/lib/systemd/systemd", program(None)),
        ("usr/lib/systemd/systemd-networkd", program(None)),
        ("usr/sbin/netplan", b"#!/usr/bin/python3\n".to_vec()),
        ("usr/sbin/sshd", program(None)),
        ("usr/bin/cloud-init", b"#!/usr/bin/python3\n".to_vec()),
        (
            "etc/cloud/cloud.cfg",
            b"system_info:\n  network:\n    renderers: ['netplan', 'eni', 'networkd']\n".to_vec(),
        ),
        ("etc/machine-id", b"uninitialized\n".to_vec()),
        ("var/lib/dpkg/status", status.into()),
        ("boot/vmlinuz-6.1.0-40-cloud-amd64", b"MZ".to_vec()),
        ("usr/lib/modules/6.1.0-40-cloud-amd64/kernel/drivers/net/virtio_net.ko", program(None)),
    ])
}

/// Writes an image that is one ext4 filesystem of 32 MiB with these files.
pub(crate) fn ext4_image(files: &Files, image: &Path) {
    let tree = tempfile::tempdir().expect("a directory");
    for (path, content) in files {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        match content.strip_prefix(b"->") {
            Some(target) => symlink(String::from_utf8_lossy(target).as_ref(), &path).expect("linked"),
            None => fs::write(&path, content).expect("written"),
        }
    }
    make_ext4(tree.path(), image);
}

fn make_ext4(tree: &Path, image: &Path) {
    let mut command = Command::new("/usr/sbin/mke2fs");
    command.args(["-q", "-t", "ext4", "-d"]).arg(tree).arg(image).arg("32M");
    let output = command.output().expect("mke2fs, of the package e2fsprogs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The content of [`ext4_image`].
pub(crate) fn ext4_bytes(files: &Files) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    ext4_image(files, &dir.path().join("image"));
    fs::read(dir.path().join("image")).expect("read")
}

/// Writes a disk with a GPT, whose partitions have these numbers and contents.
pub(crate) fn gpt_image(partitions: &[(u32, &[u8])], image: &Path) {
    let file = File::create_new(image).expect("created");
    let bytes = partitions.iter().map(|(_, content)| content.len() as u64).sum::<u64>() + 4 * MIB;
    file.set_len(bytes).expect("sized");
    let file = File::options().read(true).write(true).open(image).expect("opened");
    ProtectiveMBR::with_lb_size((bytes / 512 - 1) as u32).overwrite_lba0(&mut (&file)).expect("an MBR");
    let mut disk = gpt::GptConfig::new().writable(true).create_from_device(file, None).expect("a GPT");
    let mut start = 2048;
    let mut placed = Vec::new();
    for (number, content) in partitions {
        let sectors = content.len() as u64 / 512;
        disk.add_partition_at("", *number, start, sectors, LINUX_FS, 0).expect("a partition");
        placed.push((start * 512, content));
        start += sectors.next_multiple_of(2048);
    }
    let file = disk.write().expect("written");
    for (at, content) in placed {
        file.write_all_at(content, at).expect("written");
    }
    renumber(&file, partitions);
}

/// Moves the entries of the primary table to the places of their numbers: the crate writes them in a row, by number.
fn renumber(file: &File, partitions: &[(u32, &[u8])]) {
    let mut head = vec![0; 34 * 512];
    file.read_exact_at(&mut head, 0).expect("read");
    let mut numbers: Vec<_> = partitions.iter().map(|(number, _)| *number as usize).collect();
    numbers.sort_unstable();
    let mut table = vec![0; 128 * 128];
    for (at, number) in numbers.into_iter().enumerate() {
        put(&mut table, (number - 1) * 128, &head[1024 + at * 128..][..128]);
    }
    put(&mut head, 1024, &table);
    put(&mut head, 512 + 88, &crc32(&table).to_le_bytes());
    sign_gpt_header(&mut head);
    file.write_all_at(&head, 0).expect("written");
}

/// Writes the checksum of a disk's GPT header, whose own field counts as zeros.
pub(crate) fn sign_gpt_header(disk: &mut [u8]) {
    put(disk, 512 + 16, &[0; 4]);
    let checksum = crc32(&disk[512..604]);
    put(disk, 512 + 16, &checksum.to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// An entry of an MBR: type, first sector, number of sectors.
pub(crate) fn mbr_entry(kind: u8, start: u32, sectors: u32) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    entry
}

/// A boot record with these entries.
pub(crate) fn mbr(entries: &[[u8; 16]]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (slot, entry) in entries.iter().enumerate() {
        sector[446 + slot * 16..][..16].copy_from_slice(entry);
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Writes a sparse file with these contents at these offsets.
pub(crate) fn sparse(path: &Path, bytes: u64, contents: &[(u64, &[u8])]) {
    let file = File::create(path).expect("created");
    file.set_len(bytes).expect("sized");
    for (at, content) in contents {
        file.write_all_at(content, *at).expect("written");
    }
}

/// How a test's qcow2 file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Deflate,
    Zstd,
}

/// A small writer of qcow2 files, without refcounts: readers do not need them.
pub(crate) struct Qcow2Image {
    pub(crate) version: u32,
    pub(crate) packing: Packing,
    pub(crate) cluster_bits: u32,
    /// The disk's size, which may be larger than the content.
    pub(crate) bytes: u64,
}

impl Qcow2Image {
    pub(crate) fn new(version: u32, packing: Packing) -> Self {
        Self { version, packing, cluster_bits: 16, bytes: 0 }
    }

    /// The file for a disk that begins with this content.
    pub(crate) fn write(&self, content: &[u8]) -> Vec<u8> {
        let cluster = 1_usize << self.cluster_bits;
        let bytes = self.bytes.max(content.len() as u64);
        let per_table = cluster / 8;
        let tables = (bytes as usize).div_ceil(cluster).div_ceil(per_table);
        let l1_at = cluster;
        let l2_at = l1_at + (tables * 8).next_multiple_of(cluster);
        let used_tables = content.len().div_ceil(cluster).div_ceil(per_table);
        let mut file = vec![0; l2_at + used_tables * cluster];
        for table in 0..used_tables {
            let entry = (l2_at + table * cluster) as u64 | 1 << 63;
            put(&mut file, l1_at + table * 8, &entry.to_be_bytes());
        }
        for (number, block) in content.chunks(cluster).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let entry = self.append(&mut file, block);
                put(&mut file, l2_at + number * 8, &entry.to_be_bytes());
            }
        }
        self.put_header(&mut file, bytes, tables as u32, l1_at as u64);
        file
    }

    /// Appends a cluster; returns its entry of the L2 table.
    fn append(&self, file: &mut Vec<u8>, block: &[u8]) -> u64 {
        let cluster = 1_usize << self.cluster_bits;
        let mut whole = block.to_vec();
        whole.resize(cluster, 0);
        let packed = match self.packing {
            Packing::Plain => {
                file.resize(file.len().next_multiple_of(cluster), 0);
                let at = file.len() as u64;
                file.extend(whole);
                return at | 1 << 63;
            }
            Packing::Deflate => {
                let mut encoder = flate2::read::DeflateEncoder::new(&whole[..], flate2::Compression::fast());
                let mut packed = Vec::new();
                std::io::copy(&mut encoder, &mut packed).expect("deflated");
                packed
            }
            Packing::Zstd => zstd::encode_all(&whole[..], 1).expect("compressed"),
        };
        let at = file.len() as u64;
        let further = (at % 512 + packed.len() as u64).div_ceil(512) - 1;
        file.extend(packed);
        1 << 62 | further << (62 - (self.cluster_bits - 8)) | at
    }

    fn put_header(&self, file: &mut [u8], bytes: u64, l1_entries: u32, l1_at: u64) {
        put(file, 0, b"QFI\xfb");
        put(file, 4, &self.version.to_be_bytes());
        put(file, 20, &self.cluster_bits.to_be_bytes());
        put(file, 24, &bytes.to_be_bytes());
        put(file, 36, &l1_entries.to_be_bytes());
        put(file, 40, &l1_at.to_be_bytes());
        if self.version == 3 {
            put(file, 96, &4_u32.to_be_bytes());
            put(file, 100, &112_u32.to_be_bytes());
        }
        if self.packing == Packing::Zstd {
            put(file, 72, &(1_u64 << 3).to_be_bytes());
            file[104] = 1;
        }
    }
}

/// Overwrites bytes.
pub(crate) fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
