//! Copies the content of a directory, with all that an archive preserves.

use crate::failure::{Context, SystemError};

use super::{pack, unpack};

/// Copies what is in the directory `from` into the directory `to`.
pub(crate) fn copy_content(from: &str, to: &str) -> Result<(), SystemError> {
    let (reader, writer) = std::io::pipe().context("create a pipe")?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack::pack_content(from, writer));
        let unpacked = unpack::unpack_into(to.as_ref(), reader);
        let packed = packing.join().unwrap_or_else(|_| {
            Err(SystemError::new(format!("copy {from}"), std::io::ErrorKind::Interrupted))
        });
        // Where both have failed, the packer has lost its reader.
        unpacked.and(packed)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_copied_with_its_modes_and_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir_all(from.join("sub")).expect("made");
        std::fs::create_dir(&to).expect("made");
        std::fs::write(from.join("sub/file"), "text").expect("written");
        std::fs::set_permissions(from.join("sub"), PermissionsExt::from_mode(0o750)).expect("set");
        symlink("sub/file", from.join("link")).expect("linked");
        copy_content(from.to_str().expect("text"), to.to_str().expect("text")).expect("copied");
        assert_eq!(std::fs::read_to_string(to.join("link")).expect("read"), "text");
        let mode = std::fs::metadata(to.join("sub")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
    }
}
