//! Names and link targets that are not UTF-8. mkext4 takes text only, so each of them is declared as a placeholder of
//! the same length, which is replaced in the written filesystem. No block moves, because no length changes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;

use mkext4::reader::Fs;
use mkext4::spec::iflags;
use mkext4::spec::inode::Inode;
use mkext4::{Error, Result, csum};

const BLOCK: usize = 4096;
/// The checksum record at the end of a directory block.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;
/// Longer link targets are in a block of their own.
const MAX_INLINE_LINK: usize = 59;
const FLAGS: usize = 0x20;
const INLINE_DATA: usize = 0x28;
const CHECKSUM_LOW: usize = 0x7c;
const CHECKSUM_HIGH: usize = 0x82;

/// The characters of placeholders.
const DIGITS: &[u8] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz!#$%&'()*+,-:;<=>?@[]^`{|}~";

/// What must be replaced in the written filesystem.
#[derive(Debug, Default)]
pub(super) struct RawNames {
    /// By the directory's declared path: names by placeholder.
    directories: BTreeMap<String, HashMap<Vec<u8>, Vec<u8>>>,
    /// Targets by the link's declared path.
    links: BTreeMap<String, Vec<u8>>,
}

impl RawNames {
    /// The name to declare in the directory at `path`, whose other names are `taken`.
    pub(super) fn declare<'a, T>(
        &mut self,
        path: &str,
        name: &'a [u8],
        taken: &BTreeMap<Vec<u8>, T>,
    ) -> Result<Cow<'a, str>> {
        if let Ok(text) = std::str::from_utf8(name) {
            return Ok(Cow::Borrowed(text));
        }
        let names = self.directories.entry(path.to_owned()).or_default();
        let mut candidates = (names.len()..).map_while(|number| placeholder(number, name.len()));
        let free =
            |text: &String| !taken.contains_key(text.as_bytes()) && !names.contains_key(text.as_bytes());
        let found = candidates.find(free).ok_or_else(|| {
            Error::Unsupported(format!(
                "a directory has too many names of {} bytes that are not UTF-8",
                name.len()
            ))
        })?;
        names.insert(found.clone().into_bytes(), name.to_vec());
        Ok(Cow::Owned(found))
    }

    /// The target to declare for the link at `path`.
    pub(super) fn declare_target<'a>(&mut self, path: &str, target: &'a [u8]) -> Cow<'a, str> {
        if let Ok(text) = std::str::from_utf8(target) {
            return Cow::Borrowed(text);
        }
        self.links.insert(path.to_owned(), target.to_vec());
        Cow::Owned("x".repeat(target.len()))
    }

    /// Replaces all placeholders in the written filesystem.
    pub(super) fn write(&self, file: &File) -> Result<()> {
        if self.directories.is_empty() && self.links.is_empty() {
            return Ok(());
        }
        let filesystem = Filesystem { fs: Fs::open(file)?, file };
        // All paths are resolved first, because a rename changes the paths below it.
        let inode = |path: &String| filesystem.fs.resolve(path);
        let directories: Vec<_> = self.directories.keys().map(inode).collect::<Result<_>>()?;
        let links: Vec<_> = self.links.keys().map(inode).collect::<Result<_>>()?;
        for (inode, names) in directories.into_iter().zip(self.directories.values()) {
            filesystem.rename(inode, names)?;
        }
        links.into_iter().zip(self.links.values()).try_for_each(|(inode, to)| filesystem.retarget(inode, to))
    }
}

/// The placeholder with this number; none if the length allows no more.
fn placeholder(mut number: usize, length: usize) -> Option<String> {
    let mut bytes = vec![DIGITS[0]; length];
    for byte in bytes.iter_mut().rev() {
        *byte = DIGITS[number % DIGITS.len()];
        number /= DIGITS.len();
    }
    String::from_utf8(bytes).ok().filter(|_| number == 0)
}

/// A written filesystem.
struct Filesystem<'a> {
    fs: Fs<&'a File>,
    file: &'a File,
}

impl Filesystem<'_> {
    /// Replaces names in a directory. A hashed directory becomes a plain one, since the hashes of its names change.
    fn rename(&self, number: u32, names: &HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
        let inode = self.fs.inode(number)?;
        let extents = self.fs.extents(number, &inode)?;
        let is_hashed = inode.flags & iflags::INDEX != 0;
        let seed = csum::inode_seed(self.fs.fs_seed(), number, inode.generation);
        for logical in 0..inode.size / BLOCK as u64 {
            let block = self.fs.file_block(&extents, logical).ok_or_else(|| damaged("directory"))?;
            let mut data = self.fs.read_block(block)?;
            if is_hashed {
                drop_index(&mut data, logical == 0);
            }
            rename_entries(&mut data, names)?;
            let sum = csum::dirent_block(seed, &data);
            data[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
            self.file.write_all_at(&data, block * BLOCK as u64)?;
        }
        if is_hashed {
            self.patch(number, &inode, FLAGS, &(inode.flags & !iflags::INDEX).to_le_bytes())
        } else {
            Ok(())
        }
    }

    fn retarget(&self, number: u32, target: &[u8]) -> Result<()> {
        let inode = self.fs.inode(number)?;
        if target.len() <= MAX_INLINE_LINK {
            return self.patch(number, &inode, INLINE_DATA, target);
        }
        let extents = self.fs.extents(number, &inode)?;
        let block = self.fs.file_block(&extents, 0).ok_or_else(|| damaged("symbolic link"))?;
        Ok(self.file.write_all_at(target, block * BLOCK as u64)?)
    }

    /// Replaces bytes of an inode, and its checksum.
    fn patch(&self, number: u32, inode: &Inode, at: usize, bytes: &[u8]) -> Result<()> {
        let mut raw = self.fs.inode_raw(number)?;
        raw[at..at + bytes.len()].copy_from_slice(bytes);
        let sum = csum::inode(self.fs.fs_seed(), number, inode.generation, &raw).to_le_bytes();
        raw[CHECKSUM_LOW..CHECKSUM_LOW + 2].copy_from_slice(&sum[..2]);
        raw[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&sum[2..]);
        let superblock = self.fs.superblock();
        let (group, index) =
            ((number - 1) / superblock.inodes_per_group, (number - 1) % superblock.inodes_per_group);
        let table = self.fs.group_desc(u64::from(group))?.inode_table * BLOCK as u64;
        Ok(self.file.write_all_at(&raw, table + u64::from(index) * u64::from(superblock.inode_size))?)
    }
}

fn damaged(what: &'static str) -> Error {
    Error::Corrupt { what, why: "its blocks cannot be found".to_owned() }
}

/// Makes a plain block of a block of a hashed directory. Its leaves are plain already; its root and inner nodes hold
/// hashes behind entries that span the block.
fn drop_index(block: &mut [u8], is_root: bool) {
    let is_node = block[..4] == [0; 4] && block[4..6] == (BLOCK as u16).to_le_bytes();
    // The root begins with the entries `.` and `..`, of 12 bytes each.
    let (entry, content) = match (is_root, is_node) {
        (true, _) => (12, 24),
        (_, true) => (0, 8),
        _ => return,
    };
    block[content..].fill(0);
    let length = (BLOCK - TAIL - entry) as u16;
    block[entry + 4..entry + 6].copy_from_slice(&length.to_le_bytes());
    let tail = &mut block[BLOCK - TAIL..];
    tail[4] = TAIL as u8;
    tail[7] = TAIL_TYPE;
}

fn rename_entries(block: &mut [u8], names: &HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
    let mut at = 0;
    while at < BLOCK - TAIL {
        let length = usize::from(u16::from_le_bytes([block[at + 4], block[at + 5]]));
        let name = at + 8..at + 8 + usize::from(block[at + 6]);
        if length < 8 || at + length > BLOCK || name.end > BLOCK {
            return Err(damaged("directory"));
        }
        if let Some(raw) = names.get(&block[name.clone()]) {
            block[name].copy_from_slice(raw);
        }
        at += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_distinct_and_bounded_by_their_length() {
        let all: std::collections::HashSet<_> = (0..).map_while(|number| placeholder(number, 1)).collect();
        assert_eq!(all.len(), DIGITS.len());
        assert_eq!(placeholder(1, 3).unwrap(), "001");
        assert!(placeholder(usize::MAX, 20).is_some());
    }

    #[test]
    fn a_placeholder_is_no_name_of_the_directory() {
        let mut raw = RawNames::default();
        let taken = BTreeMap::from([(b"0".to_vec(), ()), (b"1".to_vec(), ())]);
        assert_eq!(raw.declare("/", b"\xe9", &taken).unwrap(), "2");
        assert_eq!(raw.declare("/", b"\xe8", &taken).unwrap(), "3");
        assert_eq!(raw.declare("/", "é".as_bytes(), &taken).unwrap(), "é");
        let many: Result<Vec<_>> =
            (0x80..0xffu8).map(|byte| raw.declare("/", &[byte], &taken).map(drop)).collect();
        assert!(many.is_err());
    }
}
