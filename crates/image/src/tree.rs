//! The merged filesystem of an image: its layers applied in order, in memory, without mounting.

mod apply;
mod resolve;

use std::collections::BTreeMap;

use crate::layer::{Content, Layer, LayerError, LayerProblem, Meta, Xattr, text};

/// Index into [`Tree::inodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InodeId(u32);

/// The root directory's inode.
pub(crate) const ROOT: InodeId = InodeId(0);

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) node: Node,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Vec<Xattr>,
    /// Number of names of this inode; 0 once it is replaced or whited out.
    links: u32,
}

#[derive(Debug)]
pub(crate) enum Node {
    Directory(Directory),
    /// A file whose content is in the spool of the layer with this index.
    File {
        layer: usize,
        content: Content,
    },
    Symlink(Vec<u8>),
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

#[derive(Debug)]
pub(crate) struct Directory {
    parent: InodeId,
    /// Sorted by bytes, so that the same layers give the same filesystem.
    pub(crate) names: BTreeMap<Vec<u8>, Name>,
}

/// A directory entry and the layer that last changed it: whiteouts hide only entries of lower layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) inode: InodeId,
    layer: usize,
}

/// All inodes. Those without a name are not written to the filesystem.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
}

impl Tree {
    /// Applies layers from the lowest to the topmost.
    pub(crate) fn merge(layers: &mut [Layer]) -> Result<Self, LayerError> {
        let mut tree = Self { inodes: vec![Inode::directory(ROOT, Meta::implied((0, 0)))] };
        for (index, layer) in layers.iter_mut().enumerate() {
            for entry in std::mem::take(&mut layer.entries) {
                let path = entry.path.clone();
                tree.apply(index, entry).map_err(|p| LayerError::new(layer.digest, Some(text(&path)), p))?;
            }
        }
        tree.drop_lost_and_found()
            .map_err(|(layer, p)| LayerError::new(layers[layer].digest, Some(LOST_FOUND.to_owned()), p))?;
        Ok(tree)
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    pub(crate) fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id).node {
            Node::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inode_mut(id).node {
            Node::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Number of inodes ever created: an upper bound for tables indexed by them.
    pub(crate) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Inodes that have a name, and the root.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Inode> {
        self.inodes.iter().filter(|inode| inode.links > 0)
    }

    /// Drops an empty `lost+found`, because ext4 creates its own.
    fn drop_lost_and_found(&mut self) -> Result<(), (usize, LayerProblem)> {
        let Some(name) = self.directory(ROOT).and_then(|root| root.names.get(LOST_FOUND.as_bytes())).copied()
        else {
            return Ok(());
        };
        match self.directory(name.inode) {
            Some(directory) if directory.names.is_empty() => {
                self.unlink(ROOT, LOST_FOUND.as_bytes());
                Ok(())
            }
            _ => Err((name.layer, LayerProblem::LostFound)),
        }
    }
}

const LOST_FOUND: &str = "lost+found";

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Inode {
    fn directory(parent: InodeId, meta: Meta) -> Self {
        let node = Node::Directory(Directory { parent, names: BTreeMap::new() });
        Self { node, meta, xattrs: Vec::new(), links: 1 }
    }
}

impl Meta {
    /// Metadata of a parent directory that a layer uses without declaring it.
    fn implied(mtime: (i64, u32)) -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime }
    }
}
