//! Debian packages: an `ar` archive whose `data.tar.*` contains the files.
//! Packages are unpacked into a directory of mimeo's, never installed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::decompress::{Format, reader};
use crate::files::{FileError, IoContext as _, create_dir};

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;

/// Why a package could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Not an `ar` archive, or a truncated one.
    #[error("{} is not a Debian package: {reason}", path.display())]
    NotADeb {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// The path of a file in it leads outside the directory.
    #[error("the package contains an unsafe path: {}", path.display())]
    UnsafePath {
        /// The path in the package.
        path: PathBuf,
    },
    /// The archive inside cannot be read.
    #[error("cannot read the files inside {}", path.display())]
    Archive {
        /// The package.
        path: PathBuf,
        /// The decoder's error.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Unpacks the regular files whose path (relative, without `./`) `select`
/// accepts, to the same path below `into`. Links and special files are skipped.
pub(super) fn unpack(deb: &Path, into: &Path, select: impl Fn(&Path) -> bool) -> Result<(), DebError> {
    let archive_error = |source| DebError::Archive { path: deb.to_owned(), source };
    let mut tar = tar::Archive::new(open_data_member(deb)?);
    for entry in tar.entries().map_err(archive_error)? {
        let mut entry = entry.map_err(archive_error)?;
        let path = entry.path().map_err(archive_error)?.into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        if entry.header().entry_type().is_file() && select(path) {
            write_file(&mut entry, &into.join(check_path(path)?))?;
        }
    }
    Ok(())
}

fn check_path(path: &Path) -> Result<&Path, DebError> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(path) } else { Err(DebError::UnsafePath { path: path.to_owned() }) }
}

fn write_file(from: &mut impl Read, to: &Path) -> Result<(), FileError> {
    create_dir(to.parent().unwrap_or(Path::new("/")))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(to).at("create", to)?;
    io::copy(from, &mut file).at("write", to)?;
    Ok(())
}

/// Opens `data.tar*` as a stream that is decompressed while it is read.
fn open_data_member(deb: &Path) -> Result<Box<dyn Read>, DebError> {
    let not_a_deb = |reason| DebError::NotADeb { path: deb.to_owned(), reason };
    let mut file = BufReader::new(File::open(deb).at("open", deb)?);
    let size = seek_to_data(&mut file).at("read", deb)?.ok_or_else(|| not_a_deb("it has no data.tar"))?;
    let start = file.stream_position().at("read", deb)?;
    let mut magic = [0; 6];
    file.read_exact(&mut magic).at("read", deb)?;
    file.seek(SeekFrom::Start(start)).at("read", deb)?;
    let member = file.take(size);
    match Format::detect(&magic) {
        Some(format) => Ok(reader(format, member).at("unpack", deb)?),
        None => Ok(Box::new(member)),
    }
}

/// Seeks to the first byte of `data.tar*` and returns its length.
fn seek_to_data(file: &mut BufReader<File>) -> io::Result<Option<u64>> {
    let mut magic = [0; AR_MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != AR_MAGIC {
        return Ok(None);
    }
    let mut header = [0; AR_HEADER_BYTES];
    while file.read_exact(&mut header).is_ok() {
        let Some(size) = member_size(&header) else { return Ok(None) };
        if header.starts_with(b"data.tar") {
            return Ok(Some(size));
        }
        // Members start at even offsets.
        file.seek_relative(i64::try_from(size + size % 2).map_err(io::Error::other)?)?;
    }
    Ok(None)
}

/// The decimal length in columns 48 to 57; the header ends in two fixed bytes.
fn member_size(header: &[u8; AR_HEADER_BYTES]) -> Option<u64> {
    let text = header.ends_with(b"`\n").then_some(&header[48..58])?;
    std::str::from_utf8(text).ok()?.trim().parse().ok().filter(|size| *size < 1 << 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            // Written by hand: the builder refuses the hostile paths that we test.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        let data = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let mut bytes = AR_MAGIC.to_vec();
        for (name, member) in [("debian-binary", &b"2.0"[..]), ("data.tar.zst", &data)] {
            bytes.extend(format!("{name:<16}{:<32}{:<10}`\n", "0", member.len()).as_bytes());
            bytes.extend(member);
            bytes.extend(vec![b'\n'; member.len() % 2]);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn only_selected_files_are_unpacked() {
        let deb = deb(&[("./boot/vmlinuz-6.1", b"kernel"), ("./usr/share/doc/x", b"doc")]);
        let into = tempfile::tempdir().unwrap();
        unpack(deb.path(), into.path(), |path| path.starts_with("boot")).unwrap();
        assert_eq!(fs::read(into.path().join("boot/vmlinuz-6.1")).unwrap(), b"kernel");
        assert!(!into.path().join("usr").exists());
    }

    #[test]
    fn a_path_outside_the_directory_is_refused() {
        let into = tempfile::tempdir().unwrap();
        for hostile in ["./boot/../../escape", "/boot/escape"] {
            let deb = deb(&[(hostile, b"x")]);
            let result = unpack(deb.path(), into.path(), |_| true);
            assert!(matches!(result, Err(DebError::UnsafePath { .. })), "{hostile}: {result:?}");
        }
    }

    #[test]
    fn another_file_is_not_a_package() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"!<arch>\nnonsense").unwrap();
        let result = unpack(file.path(), Path::new("/nowhere"), |_| true);
        assert!(matches!(result, Err(DebError::NotADeb { .. })), "{result:?}");
    }
}
