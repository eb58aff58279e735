//! Creates directories, and removes paths.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, fchown};
use std::path::Path;

use mimeo_agent_protocol::message::{Failure, FailureKind, NewFile};
use rustix::fs::OFlags;

use super::lookup;
use crate::failure::{Context, failure};

/// The mode of a new directory.
const MODE: u32 = 0o755;

/// Checks that files may be created in a directory; creates it, and those above it, if `create` is set.
pub(super) fn check_parent(parent: &Path, create: bool) -> Result<(), Failure> {
    if create {
        // The filesystem is that of the first directory that exists.
        if let Some(existing) = parent.ancestors().find(|path| path.exists()) {
            drop(lookup::open(existing, OFlags::PATH | OFlags::DIRECTORY)?);
        }
        let created = DirBuilder::new().recursive(true).mode(MODE).create(parent);
        created.context(format!("create {}", parent.display()))?;
    }
    lookup::open(parent, OFlags::PATH | OFlags::DIRECTORY).map(drop)
}

/// Creates a directory.
pub(super) fn make_directory(directory: &NewFile) -> Result<(), Failure> {
    let path = Path::new(&directory.path);
    let action = || format!("create {}", path.display());
    if let Some(parent) = path.parent() {
        check_parent(parent, directory.parents)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.parents && path.is_dir() => {
            return Ok(());
        }
        created => created.context(action())?,
    }
    let opened = lookup::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    fchown(&opened, directory.uid.or(Some(0)), directory.gid.or(Some(0))).context(action())?;
    let mode = directory.mode.unwrap_or(MODE) & 0o7777;
    Ok(opened.set_permissions(Permissions::from_mode(mode)).context(action())?)
}

/// Removes a path.
pub(super) fn remove(path: &str, recursive: bool) -> Result<(), Failure> {
    let path = Path::new(path);
    let action = || format!("remove {}", path.display());
    if path.parent().is_none() {
        return Err(failure(FailureKind::Forbidden, "cannot remove /: it is the container's root"));
    }
    let found = lookup::open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let removed = match found.metadata().context(action())? {
        metadata if !metadata.is_dir() => std::fs::remove_file(path),
        _ if recursive => std::fs::remove_dir_all(path),
        _ => std::fs::remove_dir(path),
    };
    Ok(removed.context(action())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_created_and_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
        let make = |name: &str, parents| {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let mode = Some(0o700);
            make_directory(&NewFile { path: text(name), mode, uid: Some(uid), gid: Some(gid), parents })
        };
        assert_eq!(make("a/b", false).expect_err("no parent").kind, FailureKind::NotFound);
        make("a/b", true).expect("created");
        make("a/b", true).expect("exists");
        assert_eq!(make("a/b", false).expect_err("exists").kind, FailureKind::Exists);
        std::fs::write(text("a/b/file"), "x").expect("written");
        std::os::unix::fs::symlink("/etc", text("a/link")).expect("linked");
        assert_eq!(remove(&text("a/b"), false).expect_err("full").kind, FailureKind::NotEmpty);
        remove(&text("a/link"), true).expect("removed");
        remove(&text("a"), true).expect("removed");
        assert!(Path::new("/etc").exists());
        assert_eq!(remove(&text("a"), true).expect_err("gone").kind, FailureKind::NotFound);
        assert_eq!(remove("/", true).expect_err("the root").kind, FailureKind::Forbidden);
        assert_eq!(remove("/proc/1", true).expect_err("the kernel's").kind, FailureKind::Forbidden);
    }
}
