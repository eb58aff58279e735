//! The host's side of a copy.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header, HeaderMode};

use super::destination::{Kind, Name};
use super::pipe::{Tar, Writer};
use super::{CopySource, content};
use crate::error::CliError;

/// The source of a copy from the host.
pub(super) fn source(path: &Path) -> Result<CopySource, CliError> {
    let text = path.to_string_lossy();
    let metadata = fs::metadata(path)
        .map_err(|source| CliError::io(format!("copy {:?}", path.display().to_string()), source))?;
    let kind = if metadata.is_dir() { Kind::Directory } else { Kind::File };
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // `.` has no name; the directory that it stands for has one.
    let name = path.file_name().or_else(|| absolute.file_name()).unwrap_or_default().to_owned();
    Ok(CopySource { kind, name, contents: text == "." || text.ends_with("/.") })
}

/// The kind of the file at a path on the host; `None` if there is none.
pub(super) fn kind(path: &Path) -> Result<Option<Kind>, CliError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Some(Kind::Directory)),
        Ok(_) => Ok(Some(Kind::File)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(CliError::io(format!("access {}", path.display()), error)),
    }
}

/// Packs a file or a directory tree under another name and owner.
pub(super) fn pack(path: &Path, name: &Name, owner: (u64, u64), writer: Writer) -> Result<(), CliError> {
    let root = match name {
        Name::As(name) => PathBuf::from(name),
        Name::Contents => PathBuf::from("."),
    };
    let mut builder = Builder::new(writer);
    // A symlink as the source itself is followed, as `source` does.
    let mut todo = vec![(path.canonicalize().unwrap_or_else(|_| path.to_owned()), root)];
    while let Some((path, name)) = todo.pop() {
        let failed = |source| CliError::io(format!("pack {}", path.display()), source);
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        append(&mut builder, &path, &name, &metadata, owner).map_err(failed)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                todo.push((entry.path(), name.join(entry.file_name())));
            }
        }
    }
    let packed = builder.into_inner().and_then(|mut writer| writer.flush());
    packed.map_err(|source| CliError::io("pack", source))
}

fn append(
    builder: &mut Builder<Writer>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
    (uid, gid): (u64, u64),
) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(metadata, HeaderMode::Complete);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(0);
    if metadata.is_symlink() {
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if metadata.is_dir() {
        return builder.append_data(&mut header, name, std::io::empty());
    }
    if !metadata.is_file() {
        tracing::warn!(component = "cp", path = %path.display(), "skipped: not a file, directory or symlink");
        return Ok(());
    }
    let (length, content) = content::open(path, metadata)?;
    header.set_size(length);
    builder.append_data(&mut header, name, content)
}

/// Unpacks into a directory. The archive comes from a guest, so nothing is
/// written outside the directory.
pub(super) async fn unpack(tar: Tar, directory: PathBuf) -> Result<(), CliError> {
    tokio::task::spawn_blocking(move || {
        let mut tar = tar;
        let failed = |source| CliError::io(format!("unpack into {}", directory.display()), source);
        let unpacked = unpack_entries(&mut tar, &directory);
        tar.chunks.close();
        // Report what failed first: an archive that ends early was cut off by its producer.
        let produced = tokio::runtime::Handle::current().block_on(&mut tar.producer)?;
        match (unpacked, produced) {
            (Err(error), _) if error.kind() != ErrorKind::UnexpectedEof => Err(failed(error)),
            (_, Err(error)) => Err(error),
            (unpacked, Ok(())) => unpacked.map_err(failed),
        }
    })
    .await?
}

fn unpack_entries(tar: impl Read, directory: &Path) -> std::io::Result<()> {
    let mut archive = Archive::new(tar);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    // A directory's mode may forbid writing into it, so modes are set last.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let path = entry.path()?;
                tracing::warn!(component = "cp", path = %path.display(), "skipped: not a file, directory or symlink");
            }
            kind => {
                if kind == EntryType::Link {
                    remove_replaced_file(directory, &entry.path()?)?;
                }
                if !entry.unpack_in(directory)? {
                    return Err(std::io::Error::new(
                        ErrorKind::InvalidData,
                        "an entry's path leads outside the destination",
                    ));
                }
            }
        }
    }
    for directory_entry in directories.iter_mut().rev() {
        directory_entry.unpack_in(directory)?;
    }
    Ok(())
}

/// Removes the file that a hard link replaces. A file outside `directory`,
/// reached through a symlink, stays: unpacking refuses such an entry.
fn remove_replaced_file(directory: &Path, name: &Path) -> std::io::Result<()> {
    let path = directory.join(name);
    let inside = path.parent().is_some_and(|parent| {
        matches!((parent.canonicalize(), directory.canonicalize()), (Ok(parent), Ok(top)) if parent.starts_with(&top))
    });
    let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
    if inside && is_file { fs::remove_file(&path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Attack<'a> = &'a dyn Fn(&mut Builder<Vec<u8>>);

    /// Appends an entry with any name, even one that the `tar` crate refuses to write.
    fn append(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
        let mut header = Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).expect("appended");
    }

    #[test]
    fn a_hostile_archive_writes_nothing_outside_the_target() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
        fs::create_dir(&target).and_then(|()| fs::create_dir(&outside)).expect("made");
        fs::write(outside.join("secret"), "kept").expect("written");
        let away = outside.to_str().expect("text");
        let attacks: [Attack<'_>; 4] = [
            &|tar| append(tar, EntryType::Regular, "../outside/secret", "", b"evil"),
            &|tar| {
                append(tar, EntryType::Symlink, "link", away, b"");
                append(tar, EntryType::Regular, "link/secret", "", b"evil");
            },
            &|tar| {
                append(tar, EntryType::Symlink, "way", away, b"");
                append(tar, EntryType::Link, "way/secret", "way/secret", b"");
            },
            &|tar| append(tar, EntryType::Regular, &format!("{away}/new"), "", b"evil"),
        ];
        for attack in attacks {
            let mut tar = Builder::new(Vec::new());
            attack(&mut tar);
            // The entry may be refused or redirected into the target; both are safe.
            drop(unpack_entries(&tar.into_inner().expect("an archive")[..], &target));
            assert_eq!(fs::read_to_string(outside.join("secret")).expect("there"), "kept");
            assert_eq!(fs::read_dir(&outside).expect("listed").count(), 1);
        }
    }

    #[test]
    fn files_and_hard_links_replace_existing_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in [b"one", b"two"] {
            let mut tar = Builder::new(Vec::new());
            append(&mut tar, EntryType::Regular, "a", "", content);
            append(&mut tar, EntryType::Link, "b", "a", b"");
            unpack_entries(&tar.into_inner().expect("an archive")[..], dir.path()).expect("unpacked");
            assert_eq!(fs::read(dir.path().join("b")).expect("there"), content);
        }
    }
}
