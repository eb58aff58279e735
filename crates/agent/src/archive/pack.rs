//! Packs a tree into a tar stream: owners, modes, times, links, devices and extended attributes.
//!
//! The tree may change meanwhile. A path that is removed, or becomes another kind of file, after it was
//! found is left out.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mimeo_agent_protocol::message::{Failure, Reply};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use tar::{Builder, EntryType, Header, HeaderMode};
use tokio::sync::oneshot;

use super::source::{Content, Source, is_gone};
use crate::failure::{Context, SystemError};

/// Magic numbers of pseudo filesystems, which are left out: proc, sysfs, cgroup2.
const PSEUDO_FILESYSTEMS: [i64; 3] = [0x9fa0, 0x6265_6572, 0x6367_7270];

/// Packs `path` under its last component. Signals `found` before the first byte.
pub(super) fn pack(
    path: &str,
    options: PackOptions,
    found: oneshot::Sender<Reply>,
    writer: impl Write,
) -> Result<(), Failure> {
    let metadata = if options.follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    let metadata = metadata.context(format!("stat {path}"))?;
    // If the receiver is gone, the first write fails.
    found.send(Reply::Done).ok();
    let name = Path::new(path).file_name().filter(|_| !options.content);
    let name = name.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut packer = Packer { one_filesystem: options.one_filesystem, ..Packer::new(writer) };
    let tree = if options.content { content_of(path) } else { path.into() };
    packer.add_tree(tree, name, metadata)?;
    Ok(packer.finish().context(format!("pack {path}"))?)
}

/// Packs the content of a directory.
pub(super) fn pack_content(directory: &str, writer: impl Write) -> Result<(), SystemError> {
    let metadata = std::fs::metadata(directory).context(format!("stat {directory}"))?;
    // What is mounted there, such as the files that the container runtime manages, is not part of the content.
    let mut packer = Packer { one_filesystem: true, ..Packer::new(writer) };
    packer.add_tree(content_of(directory), PathBuf::from("."), metadata)?;
    packer.finish().context(format!("pack {directory}"))
}

/// A path that is a directory also where the other one is a link to it.
fn content_of(directory: &str) -> PathBuf {
    format!("{directory}/.").into()
}

/// What to pack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackOptions {
    /// Follow the path when it is a symbolic link.
    pub(crate) follow: bool,
    /// Leave out what is mounted below the path.
    pub(crate) one_filesystem: bool,
    /// Begin the names with `.` instead of the path's last component.
    pub(crate) content: bool,
}

/// An archive that is being written.
pub(super) struct Packer<W: Write> {
    builder: Builder<W>,
    one_filesystem: bool,
    /// The first name of each file with several hard links, by device and inode number.
    links: HashMap<(u64, u64), PathBuf>,
}

/// An entry that is still to be packed: its path, its name in the archive, and its metadata.
type PendingEntry = (PathBuf, PathBuf, Metadata);

impl<W: Write> Packer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { builder: Builder::new(writer), one_filesystem: false, links: HashMap::new() }
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> io::Result<()> {
        self.builder.into_inner().and_then(|mut writer| writer.flush())
    }

    /// Adds an entry without content.
    pub(super) fn add_empty(&mut self, header: &mut Header, name: &Path) -> io::Result<()> {
        self.builder.append_data(header, name, io::empty())
    }

    fn add_tree(&mut self, path: PathBuf, name: PathBuf, metadata: Metadata) -> Result<(), SystemError> {
        let mount = self.one_filesystem.then(|| mount_id(&path)).transpose();
        let mount = mount.context(format!("stat {}", path.display()))?;
        let mut pending = vec![(path, name, metadata)];
        while let Some((path, name, metadata)) = pending.pop() {
            let failed = || format!("pack {}", path.display());
            let is_other_mount = match mount.map(|mount| Ok(mount_id(&path)? != mount)).transpose() {
                Err(error) if is_gone(&error) => continue,
                is_other => is_other.context(failed())?.unwrap_or_default(),
            };
            // A mount point is an empty directory; a file that is mounted is left out.
            if is_other_mount && !metadata.is_dir() {
                continue;
            }
            self.add_entry(&path, &name, &metadata).context(failed())?;
            if metadata.is_dir() && !is_other_mount {
                push_entries(&path, &name, &metadata, mount.is_some(), &mut pending)
                    .context(format!("list {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Adds a path, unless it is gone.
    pub(super) fn add_entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        // A socket is useless without its server.
        if metadata.file_type().is_socket() {
            return Ok(());
        }
        // Opened before anything is written, or the archive would end in the middle of an entry.
        match Source::open(path, metadata) {
            Ok(source) => self.add_source(source, name),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn add_source(&mut self, source: Source, name: &Path) -> io::Result<()> {
        let metadata = &source.metadata;
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(metadata, HeaderMode::Complete);
        header.set_size(0);
        if let Some(first) = self.first_name_of_file(name, metadata) {
            header.set_entry_type(EntryType::Link);
            return self.builder.append_link(&mut header, name, first);
        }
        self.add_attributes(&source.attributes)?;
        match source.content {
            Content::Link(target) => self.builder.append_link(&mut header, name, target),
            Content::File(length, content) => {
                header.set_size(length);
                self.builder.append_data(&mut header, name, content)
            }
            Content::Device(number) => {
                header.set_device_major(rustix::fs::major(number))?;
                header.set_device_minor(rustix::fs::minor(number))?;
                self.add_empty(&mut header, name)
            }
            Content::Empty => self.add_empty(&mut header, name),
        }
    }

    /// The name under which the archive already has the same file.
    fn first_name_of_file(&mut self, name: &Path, metadata: &Metadata) -> Option<PathBuf> {
        if metadata.is_dir() || metadata.nlink() < 2 {
            return None;
        }
        let key = (metadata.dev(), metadata.ino());
        let first = self.links.get(&key).cloned();
        if first.is_none() {
            self.links.insert(key, name.to_owned());
        }
        first
    }

    fn add_attributes(&mut self, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(attributes)
    }
}

/// Adds what is in a directory to `pending`; nothing if the directory is gone.
fn push_entries(
    path: &Path,
    name: &Path,
    parent: &Metadata,
    one_filesystem: bool,
    pending: &mut Vec<PendingEntry>,
) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if is_gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        // With one filesystem they stay, as empty mount points.
        if metadata.dev() != parent.dev() && !one_filesystem && is_pseudo_filesystem(&entry.path()) {
            continue;
        }
        pending.push((entry.path(), name.join(entry.file_name()), metadata));
    }
    Ok(())
}

/// The id of the mount that a path is on. Device numbers do not tell: an overlay's files have those of its layers.
fn mount_id(path: &Path) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(statx(CWD, path, flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn is_pseudo_filesystem(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|filesystem| PSEUDO_FILESYSTEMS.contains(&filesystem.f_type))
}
