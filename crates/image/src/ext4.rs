//! Writes a merged tree as an ext4 image, without root privileges and without mounting. The output is reproducible.

mod raw_names;
mod sink;
mod size;

use std::collections::HashMap;
use std::fs::File;

use raw_names::RawNames;

use mkext4::{FsBuilder, InodeCount, InodeHandle, Layout, Options, SparseSeg, SpecialKind};

use crate::layer::{Content, Layer, Meta, Xattr};
use crate::tree::{Inode, InodeId, Node, ROOT, Tree};

pub(crate) use sink::SparseSink;

/// ext4's smallest journal, in blocks. It stays empty, because the image is never written to.
const JOURNAL_BLOCKS: u32 = 1024;
/// The superblock's timestamps, fixed for reproducible output.
const EPOCH: i64 = 0;

/// Files whose content is still to be written, in the order of their blocks.
struct Fills<'a> {
    handles: Vec<(InodeHandle, usize, &'a Content)>,
    total: u64,
}

/// Writes the tree and the layers' spooled content to `file`. `report` receives the bytes written and the total.
pub(crate) fn write(
    tree: &Tree,
    layers: &[Layer],
    uuid: [u8; 16],
    file: &File,
    report: &mut dyn FnMut(u64, u64),
) -> mkext4::Result<()> {
    let Declared { layout, fills, raw_names } = build_layout(tree, uuid)?;
    file.set_len(layout.image_len())?;
    let mut writer = layout.writer(SparseSink::new(file))?;
    let mut done = 0;
    for (handle, layer, content) in fills.handles {
        writer.fill(handle, &mut layers[layer].spool.reader(content))?;
        done += stored_bytes(content);
        report(done, fills.total);
    }
    writer.finish()?;
    raw_names.write(file)
}

/// A layout, and what is to be written into it.
struct Declared<'a> {
    layout: Layout,
    fills: Fills<'a>,
    raw_names: RawNames,
}

/// Builds the layout with an upper estimate of the size. If mkext4 needs more, the size grows: holes cost nothing.
fn build_layout(tree: &Tree, uuid: [u8; 16]) -> mkext4::Result<Declared<'_>> {
    let mut plan = size::Plan::estimate(tree);
    for _ in 0..size::MAX_GROWTHS {
        match declare(tree, &plan, uuid) {
            Err(mkext4::Error::Invalid(_)) => plan.grow(),
            done => return done,
        }
    }
    declare(tree, &plan, uuid)
}

fn declare<'a>(tree: &'a Tree, plan: &size::Plan, uuid: [u8; 16]) -> mkext4::Result<Declared<'a>> {
    let mut options = Options::new(plan.bytes(), uuid, EPOCH);
    options.inodes = InodeCount::Exact(plan.inodes());
    options.reserved_percent = 0;
    options.journal_blocks = Some(JOURNAL_BLOCKS);
    let mut declaration = Declaration {
        builder: FsBuilder::new(options)?,
        tree,
        handles: HashMap::with_capacity(tree.len()),
        fills: Fills { handles: Vec::new(), total: 0 },
        raw_names: RawNames::default(),
    };
    declaration.declare_tree()?;
    let Declaration { builder, fills, raw_names, .. } = declaration;
    Ok(Declared { layout: builder.seal()?, fills, raw_names })
}

struct Declaration<'a> {
    builder: FsBuilder,
    tree: &'a Tree,
    handles: HashMap<usize, InodeHandle>,
    fills: Fills<'a>,
    raw_names: RawNames,
}

/// A directory whose names are to be declared, and the path that it was declared at.
struct Pending {
    id: InodeId,
    handle: InodeHandle,
    path: String,
}

/// The location that a name is declared at.
struct Location<'n> {
    parent: InodeHandle,
    name: &'n str,
    path: &'n str,
}

impl<'a> Declaration<'a> {
    fn declare_tree(&mut self) -> mkext4::Result<()> {
        let root = self.tree.inode(ROOT);
        self.builder.set_meta(mkext4::ROOT, meta(root.meta))?;
        self.set_xattrs(mkext4::ROOT, &root.xattrs)?;
        let mut pending = vec![Pending { id: ROOT, handle: mkext4::ROOT, path: String::new() }];
        while let Some(directory) = pending.pop() {
            self.declare_directory(&directory, &mut pending)?;
        }
        Ok(())
    }

    fn declare_directory(&mut self, at: &Pending, pending: &mut Vec<Pending>) -> mkext4::Result<()> {
        let Some(directory) = self.tree.directory(at.id) else { return Ok(()) };
        for (name, found) in &directory.names {
            let name = self.raw_names.declare(&at.path, name, &directory.names)?;
            let path = format!("{}/{name}", at.path);
            let location = Location { parent: at.handle, name: &name, path: &path };
            let handle = self.declare_name(&location, found.inode)?;
            if self.tree.directory(found.inode).is_some() {
                pending.push(Pending { id: found.inode, handle, path });
            }
        }
        Ok(())
    }

    fn declare_name(&mut self, location: &Location<'_>, id: InodeId) -> mkext4::Result<InodeHandle> {
        if let Some(handle) = self.handles.get(&id.index()).copied() {
            self.builder.hardlink(location.parent, location.name, handle)?;
            return Ok(handle);
        }
        let inode = self.tree.inode(id);
        let handle = self.declare_inode(location, inode)?;
        self.set_xattrs(handle, &inode.xattrs)?;
        self.handles.insert(id.index(), handle);
        Ok(handle)
    }

    fn declare_inode(&mut self, location: &Location<'_>, inode: &'a Inode) -> mkext4::Result<InodeHandle> {
        let Location { parent, name, path } = *location;
        let meta = meta(inode.meta);
        let special = |kind| (parent, name, meta, kind);
        let (parent, name, meta, kind) = match &inode.node {
            Node::Directory(_) => return self.builder.mkdir(parent, name, meta),
            Node::File { layer, content } => return self.declare_file(parent, name, meta, *layer, content),
            Node::Symlink(target) => {
                let target = self.raw_names.declare_target(path, target);
                return self.builder.symlink(parent, name, &target, meta);
            }
            Node::Char { major, minor } => special(SpecialKind::Char { major: *major, minor: *minor }),
            Node::Block { major, minor } => special(SpecialKind::Block { major: *major, minor: *minor }),
            Node::Fifo => special(SpecialKind::Fifo),
        };
        self.builder.mknod(parent, name, meta, kind)
    }

    fn declare_file(
        &mut self,
        parent: InodeHandle,
        name: &str,
        meta: mkext4::Meta,
        layer: usize,
        content: &'a Content,
    ) -> mkext4::Result<InodeHandle> {
        let is_dense = content.data == [(0, content.size)];
        let handle = if is_dense || content.size == 0 {
            self.builder.file(parent, name, meta, content.size)?
        } else {
            self.builder.file_sparse(parent, name, meta, &segments(content))?
        };
        if !content.data.is_empty() {
            self.fills.total += stored_bytes(content);
            self.fills.handles.push((handle, layer, content));
        }
        Ok(handle)
    }

    fn set_xattrs(&mut self, handle: InodeHandle, xattrs: &[Xattr]) -> mkext4::Result<()> {
        xattrs.iter().try_for_each(|(name, value)| self.builder.set_xattr(handle, name, value))
    }
}

fn meta(meta: Meta) -> mkext4::Meta {
    mkext4::Meta::new(meta.mode, meta.uid, meta.gid, meta.mtime)
}

fn stored_bytes(content: &Content) -> u64 {
    content.data.iter().map(|(_, length)| length).sum()
}

fn segments(content: &Content) -> Vec<SparseSeg> {
    let mut out = Vec::new();
    let mut at = 0;
    for (offset, length) in &content.data {
        if *offset > at {
            out.push(SparseSeg::Hole(offset - at));
        }
        out.push(SparseSeg::Data(*length));
        at = offset + length;
    }
    if at < content.size {
        out.push(SparseSeg::Hole(content.size - at));
    }
    out
}
