//! Access to the members of a layout, in a folder or in a tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::LocalError;
use crate::commit::FileError;
use crate::layer::{self, Budget};
use crate::limits::{Limits, MAX_DOCUMENT};
use crate::store::Store;

/// Symbolic links from member to member that are followed; `docker save` makes one.
const MAX_LINKS: usize = 8;

pub(super) enum Files {
    Folder(PathBuf),
    Archive { path: PathBuf, file: File, members: HashMap<String, Member> },
}

/// The location of an archive member.
pub(super) enum Member {
    At { offset: u64, size: u64 },
    Link(String),
}

impl Files {
    pub(super) fn folder(path: &Path) -> Self {
        Self::Folder(path.to_owned())
    }

    /// Opens an archive, which may be compressed.
    pub(super) fn archive(store: &Store, path: &Path, limits: &Limits) -> Result<Self, LocalError> {
        Self::open_archive(store, path, path, limits)
    }

    /// As [`Self::archive`], with another name in errors.
    pub(super) fn open_archive(
        store: &Store,
        from: &Path,
        path: &Path,
        limits: &Limits,
    ) -> Result<Self, LocalError> {
        let file = File::open(from).map_err(FileError::at("open", path))?;
        let file = decompress(store, path, file, limits)?;
        let members = list_members(&file).map_err(FileError::at("read", path))?;
        Ok(Self::Archive { path: path.to_owned(), file, members })
    }

    /// Opens a member for reading.
    pub(super) fn open(&self, member: &str) -> Result<Box<dyn Read + '_>, LocalError> {
        check_inside(member)?;
        match self {
            Self::Folder(folder) => open_in_folder(folder, member),
            Self::Archive { path, file, members } => {
                let (offset, size) = find(members, member, MAX_LINKS)?;
                let part = open_range(file, offset, size).map_err(FileError::at("read", path))?;
                Ok(Box::new(part))
            }
        }
    }

    pub(super) fn has(&self, member: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(member).exists(),
            Self::Archive { members, .. } => members.contains_key(member),
        }
    }

    /// Reads a document. Fails if it exceeds the size limit.
    pub(super) fn bytes(&self, member: &str) -> Result<Vec<u8>, LocalError> {
        let mut bytes = Vec::new();
        let read = self.open(member)?.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(FileError::at("read", Path::new(member)))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(LocalError::TooLarge { member: member.to_owned(), bytes: bytes.len() as u64 });
        }
        Ok(bytes)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, member: &str) -> Result<T, LocalError> {
        let bytes = self.bytes(member)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| LocalError::Unreadable { member: member.to_owned(), source })
    }
}

/// Checks that a document's member name does not refer to a file elsewhere on the host.
fn check_inside(member: &str) -> Result<(), LocalError> {
    let plain = Path::new(member).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain { Ok(()) } else { Err(LocalError::Outside { member: member.to_owned() }) }
}

fn open_in_folder(folder: &Path, member: &str) -> Result<Box<dyn Read>, LocalError> {
    let path = folder.join(member);
    match File::open(&path) {
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
            Err(LocalError::Missing { member: member.to_owned() })
        }
        Err(error) => Err(FileError::at("open", &path)(error).into()),
    }
}

fn find(members: &HashMap<String, Member>, member: &str, links: usize) -> Result<(u64, u64), LocalError> {
    match members.get(member) {
        Some(Member::At { offset, size }) => Ok((*offset, *size)),
        Some(Member::Link(target)) if links > 0 => find(members, &resolve_link(member, target)?, links - 1),
        _ => Err(LocalError::Missing { member: member.to_owned() }),
    }
}

/// Resolves a link's target relative to its member, within the archive.
fn resolve_link(member: &str, target: &str) -> Result<String, LocalError> {
    let mut parts: Vec<&str> = member.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(|| LocalError::Outside { member: member.to_owned() })?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn open_range(file: &File, offset: u64, size: u64) -> io::Result<impl Read + use<>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::with_capacity(256 << 10, file.take(size)))
}

/// Decompresses an archive into a temporary file, within the limits of a layer: a bomb must not fill the disk.
fn decompress(store: &Store, path: &Path, mut file: File, limits: &Limits) -> Result<File, LocalError> {
    if !layer::is_compressed(&mut file).map_err(FileError::at("read", path))? {
        return Ok(file);
    }
    let temporary = store.temporary();
    let mut out = tempfile::tempfile_in(&temporary).map_err(FileError::at("write in", &temporary))?;
    layer::unpack(file, &mut out, &Budget::new(limits.clone()))
        .map_err(|problem| LocalError::Unpack(Box::new(problem)))?;
    out.seek(SeekFrom::Start(0)).map_err(FileError::at("rewind", &temporary))?;
    Ok(out)
}

fn list_members(file: &File) -> io::Result<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let member = match entry.link_name_bytes() {
            Some(target) => Member::Link(String::from_utf8_lossy(&target).into_owned()),
            None => Member::At { offset: entry.raw_file_position(), size: entry.size() },
        };
        members.insert(name, member);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_the_archive() {
        assert_eq!(resolve_link("a/layer.tar", "../b/layer.tar").unwrap(), "b/layer.tar");
        assert!(resolve_link("a/layer.tar", "../../etc/passwd").is_err());
        assert!(check_inside("/etc/passwd").is_err());
        assert!(check_inside("../x").is_err());
        assert!(check_inside("blobs/sha256/x").is_ok());
    }
}
