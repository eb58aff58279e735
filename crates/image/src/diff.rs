//! How the filesystems of two images differ.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::build::{self, BuildError};
use crate::commit::FileError;
use crate::image::{Image, LayerInfo};
use crate::layer::{Content, Layer};
use crate::limits::Limits;
use crate::progress::Quiet;
use crate::store::Store;
use crate::tree::{Inode, InodeId, Node, ROOT, Tree};

/// Bytes per read of a file's content.
const CHUNK: usize = 64 << 10;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content or its metadata differ, or something in the directory does.
    Changed,
    /// It is missing.
    Deleted,
}

/// Differences by path, which begins with a slash.
pub type Changes = BTreeMap<Vec<u8>, ChangeKind>;

/// Why two images could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A layer cannot be read.
    #[error(transparent)]
    Layers(#[from] BuildError),
    /// A layer is not in the store.
    #[error("layer {layer} is not in the store: pull the image again")]
    Missing {
        /// Its digest.
        layer: crate::Digest,
    },
    /// The store cannot be locked.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content of a file cannot be read.
    #[error("the unpacked layers cannot be read")]
    Content(#[source] io::Error),
}

impl Store {
    /// Compares an image with another one; without one, with itself without its topmost layer. Reads all layers of both.
    ///
    /// # Errors
    /// If a layer cannot be read.
    pub fn diff(&self, image: &Image, base: Option<&Image>) -> Result<Changes, DiffError> {
        let _lock = self.lock_shared()?;
        let lower = match base {
            Some(base) => &base.layers[..],
            None => &image.layers[..image.layers.len().saturating_sub(1)],
        };
        let (old, new) = (Filesystem::read(self, lower)?, Filesystem::read(self, &image.layers)?);
        compare(&old, &new).map_err(DiffError::Content)
    }
}

/// The merged layers of an image.
struct Filesystem {
    tree: Tree,
    layers: Vec<Layer>,
}

impl Filesystem {
    fn read(store: &Store, layers: &[LayerInfo]) -> Result<Self, DiffError> {
        if let Some(missing) = layers.iter().find(|layer| !store.blob(layer.digest).exists()) {
            return Err(DiffError::Missing { layer: missing.digest });
        }
        // The store has accepted these layers before.
        let limits = Limits::default().without_ratio();
        let mut layers = build::read_stored(store, layers, &limits, &(Arc::new(Quiet) as _))?;
        let tree = Tree::merge(&mut layers).map_err(BuildError::Layer)?;
        Ok(Self { tree, layers })
    }

    fn inode(&self, id: InodeId) -> &Inode {
        self.tree.inode(id)
    }

    /// A digest of a file's content, with its holes as zeros.
    fn digest(&self, layer: usize, content: &Content) -> io::Result<[u8; 32]> {
        let mut reader = self.layers[layer].spool.reader(content);
        let (mut hash, mut at) = (Sha256::new(), 0);
        for &(start, length) in &content.data {
            copy(&mut io::repeat(0).take(start - at), &mut hash)?;
            copy(&mut (&mut reader).take(length), &mut hash)?;
            at = start + length;
        }
        copy(&mut io::repeat(0).take(content.size.saturating_sub(at)), &mut hash)?;
        Ok(hash.finalize().into())
    }
}

fn copy(from: &mut impl Read, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Not recursive, because the depth is untrusted input.
fn compare(old: &Filesystem, new: &Filesystem) -> io::Result<Changes> {
    let mut changes = Changes::new();
    let mut pending = vec![(Vec::new(), Some(ROOT), ROOT)];
    while let Some((path, before, after)) = pending.pop() {
        let before = before.and_then(|id| old.tree.directory(id));
        let Some(after) = new.tree.directory(after) else { continue };
        for (name, found) in &after.names {
            let path = join(&path, name);
            let same = before.and_then(|directory| directory.names.get(name)).map(|name| name.inode);
            match same {
                None => note(&mut changes, &path, ChangeKind::Added),
                Some(id) if differ((old, id), (new, found.inode))? => {
                    note(&mut changes, &path, ChangeKind::Changed);
                }
                Some(_) => {}
            }
            pending.push((path, same, found.inode));
        }
        let lost = before.into_iter().flat_map(|directory| directory.names.keys());
        for name in lost.filter(|name| !after.names.contains_key(*name)) {
            note(&mut changes, &join(&path, name), ChangeKind::Deleted);
        }
    }
    Ok(changes)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

/// Records a change. As with podman, the directories above it have changed, too.
fn note(changes: &mut Changes, path: &[u8], kind: ChangeKind) {
    changes.insert(path.to_vec(), kind);
    let mut rest = path;
    while let Some(at) = rest.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0) {
        rest = &path[..at];
        match changes.entry(rest.to_vec()) {
            Occupied(_) => return,
            Vacant(above) => _ = above.insert(ChangeKind::Changed),
        }
    }
}

/// Whether an inode has changed. The time of a directory says nothing.
fn differ((old, before): (&Filesystem, InodeId), (new, after): (&Filesystem, InodeId)) -> io::Result<bool> {
    let (before, after) = (old.inode(before), new.inode(after));
    let owner = |inode: &Inode| (inode.meta.mode, inode.meta.uid, inode.meta.gid);
    if owner(before) != owner(after) || before.xattrs != after.xattrs {
        return Ok(true);
    }
    let is_newer = before.meta.mtime != after.meta.mtime;
    Ok(match (&before.node, &after.node) {
        (Node::Directory(_), Node::Directory(_)) => false,
        (Node::File { layer: a, content: x }, Node::File { layer: b, content: y }) => {
            is_newer || x.size != y.size || !is_same_content((old, *a, x), (new, *b, y))?
        }
        (Node::Symlink(a), Node::Symlink(b)) => is_newer || a != b,
        (Node::Char { major: a, minor: x }, Node::Char { major: b, minor: y })
        | (Node::Block { major: a, minor: x }, Node::Block { major: b, minor: y }) => {
            is_newer || (a, x) != (b, y)
        }
        (Node::Fifo, Node::Fifo) => is_newer,
        _ => true,
    })
}

/// A file of a layer that both images have is the same without a look at it.
fn is_same_content(
    (old, a, x): (&Filesystem, usize, &Content),
    (new, b, y): (&Filesystem, usize, &Content),
) -> io::Result<bool> {
    if old.layers[a].digest == new.layers[b].digest && x == y {
        return Ok(true);
    }
    Ok(old.digest(a, x)? == new.digest(b, y)?)
}
