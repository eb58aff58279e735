//! Where an export is written: a tar file or a directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::ExportError;
use crate::commit::{self, FileError};
use crate::digest::{Digest, HashingReader};

/// Takes an export's files, each under its path within.
pub(super) trait Sink {
    /// Adds a file of this size.
    fn add(&mut self, member: &str, content: &mut dyn Read, size: u64) -> Result<(), ExportError>;

    /// The content of an existing file; none if there is none.
    fn existing(&self, member: &str) -> Result<Option<Vec<u8>>, ExportError>;

    fn add_bytes(&mut self, member: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.add(member, &mut &bytes[..], bytes.len() as u64)
    }

    /// Adds a blob of the store. Fails if it does not have its digest: others would refuse the export.
    fn add_blob(&mut self, member: &str, digest: Digest, path: &Path) -> Result<(), ExportError> {
        let file = File::open(path).map_err(FileError::at("open", path))?;
        let size = file.metadata().map_err(FileError::at("stat", path))?.len();
        let mut reader = HashingReader::new(file);
        self.add(member, &mut reader, size)?;
        match reader.finish() {
            (actual, _) if actual == digest => Ok(()),
            _ => Err(ExportError::Damaged { path: path.to_owned() }),
        }
    }
}

fn failed(member: &str) -> impl FnOnce(io::Error) -> ExportError {
    let member = member.to_owned();
    |source| ExportError::Write { member, source }
}

/// A tar file. The same images give the same bytes.
pub(super) struct Tar<W: Write>(tar::Builder<W>);

impl<W: Write> Tar<W> {
    pub(super) fn new(to: W) -> Self {
        Self(tar::Builder::new(to))
    }

    pub(super) fn finish(self) -> Result<(), ExportError> {
        self.0.into_inner().and_then(|mut to| to.flush()).map_err(failed("the end of the archive"))
    }
}

impl<W: Write> Sink for Tar<W> {
    fn add(&mut self, member: &str, content: &mut dyn Read, size: u64) -> Result<(), ExportError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o444);
        header.set_mtime(0);
        self.0.append_data(&mut header, member, content.take(size)).map_err(failed(member))
    }

    fn existing(&self, _member: &str) -> Result<Option<Vec<u8>>, ExportError> {
        Ok(None)
    }
}

/// A directory.
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn create(root: &Path) -> Result<Self, ExportError> {
        fs::create_dir_all(root).map_err(FileError::at("create", root))?;
        Ok(Self { root: root.to_owned() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_empty(&self) -> Result<bool, ExportError> {
        let mut entries = fs::read_dir(&self.root).map_err(FileError::at("list", &self.root))?;
        Ok(entries.next().is_none())
    }
}

impl Sink for Folder {
    fn add(&mut self, member: &str, content: &mut dyn Read, size: u64) -> Result<(), ExportError> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.join(member);
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(FileError::at("create", parent))?;
        let mut file = commit::create_temporary(parent)?;
        io::copy(&mut content.take(size), file.as_file_mut()).map_err(failed(member))?;
        let mode = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(mode).map_err(failed(member))?;
        Ok(commit::persist(file, &path)?)
    }

    fn existing(&self, member: &str) -> Result<Option<Vec<u8>>, ExportError> {
        match fs::read(self.root.join(member)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(member)(error)),
        }
    }
}
