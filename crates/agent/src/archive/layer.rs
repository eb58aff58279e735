//! Packs what a container has changed of its image as an OCI layer: deleted paths become `.wh.` files.

use std::io::{self, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::changes::{self, Kind};
use super::pack::Packer;
use crate::failure::{Context, SystemError};

/// The name that hides a directory's contents in the layers below.
const OPAQUE: &str = ".wh..wh..opq";
/// The prefix of a name that hides a path in the layers below.
const WHITEOUT: &str = ".wh.";

/// Writes the layer.
pub(super) fn pack(writer: impl Write) -> Result<(), SystemError> {
    let mut packer = Packer::new(writer);
    changes::walk(|change| {
        let path = &change.path;
        let packed = match (&change.metadata, change.kind) {
            // An opaque directory hides it already.
            (None, _) => Ok(()),
            (Some(_), Kind::Deleted) => add_marker(&mut packer, &whiteout(path)),
            (Some(metadata), _) => {
                let added = packer.add_entry(&change.source, path, metadata);
                added.and_then(|()| match change.is_opaque {
                    true => add_marker(&mut packer, &path.join(OPAQUE)),
                    false => Ok(()),
                })
            }
        };
        packed.context(format!("pack /{}", path.display()))
    })?;
    packer.finish().context("pack the layer".to_owned())
}

fn whiteout(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(WHITEOUT);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn add_marker<W: Write>(packer: &mut Packer<W>, name: &Path) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(0);
    packer.add_empty(&mut header, name)
}
