//! Removes content that no record references.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::commit::{self, FileError};
use crate::digest::Digest;
use crate::records::{self, Records};
use crate::store::{Lock, Store};

/// Removes content that no record references. Returns the disk space freed, in bytes.
///
/// The exclusive lock means that no process adds content, so the files in `tmp` and `locks` are leftovers of processes
/// that have exited.
pub(crate) fn collect(store: &Store, _exclusive: &Lock, partials: bool) -> Result<u64, FileError> {
    let records = records::load(store)?;
    let live = Live::from_records(&records)?;
    let is_garbage = |path: &Path| !live.contains(path) && (partials || !is_partial(path));
    let mut freed = remove_where(&store.blobs(), is_garbage)?;
    freed += remove_where(&store.rootfs_folder(), |path| !live.contains(path))?;
    freed += remove_where(&store.temporary(), |_| true)?;
    freed += remove_where(&store.locks(), |_| true)?;
    freed += remove_dangling_names(store, &records)?;
    Ok(freed)
}

fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "partial")
}

/// The file's name without `.ext4`. A partial blob keeps its extension, so it never counts as live: the partial file
/// of a live blob is useless.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".ext4").unwrap_or(&name).to_owned()
}

/// Content that must be kept.
struct Live {
    /// Hex digests that records reference.
    digests: HashSet<String>,
    /// Hex digits, perhaps truncated, in unreadable records: content that they may reference is kept, too.
    mentioned: Vec<String>,
}

impl Live {
    fn from_records(records: &Records) -> Result<Self, FileError> {
        let mut live = Self { digests: HashSet::new(), mentioned: Vec::new() };
        for row in records.rows.values() {
            let layers = row.layers.iter().map(|layer| layer.digest);
            live.digests
                .extend(layers.chain([row.id, row.digest, row.rootfs_key]).map(|digest| digest.hex()));
        }
        for path in &records.set_aside {
            let text = fs::read(path).map_err(FileError::at("read", path))?;
            live.mentioned.extend(hex_runs(&text));
        }
        Ok(live)
    }

    fn contains(&self, path: &Path) -> bool {
        let stem = stem(path);
        self.digests.contains(&stem) || self.mentioned.iter().any(|run| stem.starts_with(run))
    }
}

/// Runs of hex digits that are long enough to be a prefix of a digest.
fn hex_runs(text: &[u8]) -> Vec<String> {
    let runs = text.split(|b| !b.is_ascii_hexdigit()).filter(|run| (16..=64).contains(&run.len()));
    runs.map(|run| String::from_utf8_lossy(run).into_owned()).collect()
}

fn remove_where(folder: &Path, is_garbage: impl Fn(&Path) -> bool) -> Result<u64, FileError> {
    let mut freed = 0;
    for path in records::files(folder)?.iter().filter(|path| is_garbage(path)) {
        freed += commit::remove(path)?;
    }
    Ok(freed)
}

/// Removes names without an image, which a crash between the two removals leaves behind.
fn remove_dangling_names(store: &Store, records: &Records) -> Result<u64, FileError> {
    let live: HashSet<_> = records.names.keys().map(|name| records::name_path(store, name)).collect();
    let set_aside: HashSet<_> = records.set_aside.iter().collect();
    remove_where(&store.names(), |path| !live.contains(path) && !set_aside.contains(&path.to_path_buf()))
}

/// Removes an image's record and names. The next collection removes its content.
pub(crate) fn remove_records(store: &Store, id: Digest, names: &[String]) -> Result<(), FileError> {
    for name in names {
        commit::remove(&records::name_path(store, name))?;
    }
    commit::remove(&records::image_path(store, id)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_broken_records() {
        let digest = Digest::compute(b"x");
        let text = format!("{{\"layers\": [\"{digest}\", \"sha256:12\", {}", &digest.hex()[..20]);
        assert_eq!(hex_runs(text.as_bytes()), [digest.hex(), digest.hex()[..20].to_owned()]);
    }
}
