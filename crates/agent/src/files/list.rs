//! Lists files of a directory.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use mimeo_agent_protocol::message::{Failure, FailureKind, FileInfo, Reply};
use rustix::fs::OFlags;

use super::lookup;
use crate::failure::{Context, SystemError, failure};

/// The most files of one reply: a message has at most 1 MiB, and a file may have a long name and a long target.
const MAX_FILES: u32 = 1000;
/// Bytes of names and targets of one reply at most.
const MAX_BYTES: usize = 256 * 1024;

/// Lists the files that follow `after`.
pub(super) fn list(path: &str, after: Option<&str>, limit: u32) -> Result<Reply, Failure> {
    let directory = Path::new(path);
    // Checks where it is.
    drop(lookup::open(directory, OFlags::PATH | OFlags::DIRECTORY)?);
    let after = after.map(decode).transpose()?;
    let mut names = names(directory).context(format!("list {path}"))?;
    names.retain(|name| after.as_ref().is_none_or(|after| name > after));
    names.sort_unstable();
    let total = names.len();
    let (mut files, mut bytes, mut listed) = (Vec::new(), 0, 0);
    let mut last = None;
    for name in names.into_iter().take(limit.min(MAX_FILES) as usize) {
        let file = describe(directory, &name)?;
        (listed, last) = (listed + 1, Some(name));
        let Some(file) = file else { continue };
        bytes += file.name.len() + file.target.as_ref().map_or(0, String::len);
        files.push(file);
        if bytes > MAX_BYTES {
            break;
        }
    }
    Ok(Reply::Files { files, next: last.filter(|_| listed < total).map(|name| encode(name.as_bytes())) })
}

fn names(directory: &Path) -> std::io::Result<Vec<OsString>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Describes a file; `None` if it was removed meanwhile.
fn describe(directory: &Path, name: &OsString) -> Result<Option<FileInfo>, SystemError> {
    let path = directory.join(name);
    let metadata = match std::fs::symlink_metadata(&path) {
        Err(error) if lookup::is_absent(&error) => return Ok(None),
        metadata => metadata.context(format!("stat {}", path.display()))?,
    };
    let target = std::fs::read_link(&path).ok().filter(|_| metadata.is_symlink());
    Ok(Some(lookup::describe(&name.to_string_lossy(), &metadata, target.as_deref())))
}

/// A name, whatever its bytes, as text.
fn encode(name: &[u8]) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Result<OsString, Failure> {
    let digits = text.as_bytes().chunks(2);
    let parse = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = digits.map(parse).collect::<Option<Vec<u8>>>();
    bytes.map(OsString::from_vec).ok_or_else(|| failure(FailureKind::Invalid, "`after` is not of a reply"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &Path, after: Option<&str>, limit: u32) -> (Vec<String>, Option<String>) {
        match list(path.to_str().expect("text"), after, limit) {
            Ok(Reply::Files { files, next }) => (files.into_iter().map(|file| file.name).collect(), next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_is_listed_in_parts() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in [&b"b"[..], b"a", b"\xff", b"c"] {
            std::fs::write(directory.path().join(std::ffi::OsStr::from_bytes(name)), "x").expect("written");
        }
        let (first, next) = listed(directory.path(), None, 3);
        assert_eq!((first, next.as_deref()), (vec!["a".into(), "b".into(), "c".into()], Some("63")));
        assert_eq!(listed(directory.path(), next.as_deref(), 3), (vec!["\u{fffd}".into()], None));
        assert_eq!(listed(directory.path(), Some("ff"), 3), (vec![], None));
        assert!(list("/", Some("x"), 1).is_err() && list("/", Some("1"), 1).is_ok());
    }
}
