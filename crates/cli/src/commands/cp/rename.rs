//! Renames the top directory of a tar stream as it passes through.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType};

use super::destination::Name;
use super::pipe::{Tar, Writer};
use crate::error::CliError;

/// Rewrites a tar stream: replaces the first component of its paths, or adds one where they have none, and the owner if
/// one is given.
pub(super) fn rename(
    mut tar: Tar,
    name: &Name,
    owner: Option<(u64, u64)>,
    writer: Writer,
) -> Result<(), CliError> {
    let rewritten = rewrite(&mut tar, name, owner, writer);
    tar.chunks.close();
    let produced = tokio::runtime::Handle::current().block_on(&mut tar.producer)?;
    // If the stream was cut off, the producer's error is the cause.
    produced.and(rewritten.map_err(|source| CliError::io("read the archive", source)))
}

fn rewrite(tar: &mut Tar, name: &Name, owner: Option<(u64, u64)>, writer: Writer) -> std::io::Result<()> {
    let omits_name = tar.omits_name;
    let mut archive = Archive::new(&mut *tar);
    let mut builder = Builder::new(writer);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = renamed_path(&entry.path()?, name, omits_name);
        let link = entry.link_name()?.map(|link| link.into_owned());
        let mut header = entry.header().clone();
        if let Some((uid, gid)) = owner {
            header.set_uid(uid);
            header.set_gid(gid);
        }
        match (header.entry_type(), link) {
            (EntryType::Link, Some(link)) => {
                builder.append_link(&mut header, path, renamed_path(&link, name, omits_name))?
            }
            (_, Some(link)) => builder.append_link(&mut header, path, link)?,
            (_, None) => builder.append_data(&mut header, path, &mut entry)?,
        }
    }
    builder.into_inner()?.flush()?;
    // Consume the padding after the archive's end.
    std::io::copy(&mut tar.take(u64::MAX), &mut std::io::sink()).map(drop)
}

/// Replaces the first component of `path`, or adds one if `omits_name`.
fn renamed_path(path: &Path, name: &Name, omits_name: bool) -> PathBuf {
    let mut components =
        path.components().filter(|component| !matches!(component, Component::RootDir)).peekable();
    if !omits_name || components.peek() == Some(&Component::CurDir) {
        components.next();
    }
    let below: PathBuf = components.collect();
    let path = match name {
        // Joining with an empty path would append a slash, which means a directory.
        Name::As(name) if below.as_os_str().is_empty() => PathBuf::from(name),
        Name::As(name) => Path::new(name).join(below),
        Name::Contents => below,
    };
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_component_changes() {
        let renamed_text =
            |path, name: &Name| renamed_path(Path::new(path), name, false).display().to_string();
        let named = Name::As("new".into());
        assert_eq!(renamed_path(Path::new("etc"), &named, false).as_os_str(), "new");
        assert_eq!(renamed_text("etc/a/b", &named), "new/a/b");
        assert_eq!(renamed_text("./etc", &named), "new/etc");
        assert_eq!(renamed_text("etc", &Name::Contents), ".");
        assert_eq!(renamed_text("etc/a", &Name::Contents), "a");
    }

    #[test]
    fn an_omitted_name_is_added() {
        let renamed_text =
            |path, name: &Name| renamed_path(Path::new(path), name, true).display().to_string();
        let named = Name::As("new".into());
        for (path, renamed) in [(".", "new"), ("./", "new"), ("a/b", "new/a/b"), ("./a/b", "new/a/b")] {
            assert_eq!(renamed_text(path, &named), renamed, "{path}");
        }
        assert_eq!(renamed_text(".", &Name::Contents), ".");
        assert_eq!(renamed_text("./a/b", &Name::Contents), "a/b");
    }
}
