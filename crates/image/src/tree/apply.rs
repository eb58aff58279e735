//! Applies one entry of a layer to the tree: additions, replacements, hard links and whiteouts.

use super::resolve::{Missing, components, contains_parent};
use super::{Inode, InodeId, Name, Node, ROOT, Tree};
use crate::layer::{Entry, Kind, LayerProblem, Meta, Xattr, text};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of aufs metadata such as `.wh..wh.plnk`, which is not part of the image.
const AUFS_METADATA: &[u8] = b".wh..wh.";
/// Linux shows this mode for every symbolic link, whatever an archive says.
const LINK_MODE: u16 = 0o777;
/// ext4's limit of names for one inode.
const MAX_NAMES: u32 = 65_000;

/// The location of an entry: a name in a directory.
#[derive(Debug, Clone, Copy)]
struct Location<'a> {
    parent: InodeId,
    name: &'a [u8],
    layer: usize,
}

impl Tree {
    /// Applies one entry of the layer with this index.
    pub(super) fn apply(&mut self, layer: usize, entry: Entry) -> Result<(), LayerProblem> {
        let path = entry.path.clone();
        let parts = components(&path)?;
        if contains_parent(&parts) {
            return Err(LayerProblem::Climbs);
        }
        let Some((name, parents)) = parts.split_last() else { return self.apply_root(entry) };
        if name.starts_with(WHITEOUT) {
            return self.apply_whiteout(layer, parents, name);
        }
        let missing = Missing::Create { layer, mtime: entry.meta.mtime };
        let parent = self.walk(parents, missing)?.ok_or(LayerProblem::Root)?;
        self.insert(Location { parent, name, layer }, entry)
    }

    fn apply_root(&mut self, entry: Entry) -> Result<(), LayerProblem> {
        match entry.kind {
            Kind::Directory => self.set_metadata(ROOT, entry.meta, entry.xattrs),
            _ => return Err(LayerProblem::Root),
        }
        Ok(())
    }

    fn set_metadata(&mut self, id: InodeId, meta: Meta, xattrs: Vec<Xattr>) {
        let inode = self.inode_mut(id);
        inode.meta = meta;
        inode.xattrs = xattrs;
    }

    fn insert(&mut self, location: Location<'_>, entry: Entry) -> Result<(), LayerProblem> {
        let Entry { kind, mut meta, xattrs, .. } = entry;
        if matches!(kind, Kind::Symlink(_)) {
            meta.mode = LINK_MODE;
        }
        let node = match kind {
            Kind::Directory => return self.insert_directory(location, meta, xattrs),
            Kind::HardLink(target) => return self.insert_hard_link(location, &target),
            Kind::File(content) => Node::File { layer: location.layer, content },
            Kind::Symlink(target) if target.is_empty() => return Err(LayerProblem::BadName),
            Kind::Symlink(target) => Node::Symlink(target),
            Kind::Char { major, minor } => Node::Char { major, minor },
            Kind::Block { major, minor } => Node::Block { major, minor },
            Kind::Fifo => Node::Fifo,
        };
        self.unlink(location.parent, location.name);
        let inode = self.add(Inode { node, meta, xattrs, links: 0 });
        self.add_name(location, inode)
    }

    /// Inserts a directory. An existing directory keeps its entries; any other inode is replaced.
    fn insert_directory(
        &mut self,
        location: Location<'_>,
        meta: Meta,
        xattrs: Vec<Xattr>,
    ) -> Result<(), LayerProblem> {
        let existing = self.lookup(location.parent, location.name).filter(|id| self.directory(*id).is_some());
        if let Some(id) = existing {
            self.set_metadata(id, meta, xattrs);
            return self.mark_layer(location);
        }
        self.unlink(location.parent, location.name);
        let mut inode = Inode::directory(location.parent, meta);
        inode.xattrs = xattrs;
        inode.links = 0;
        let id = self.add(inode);
        self.add_name(location, id)
    }

    fn insert_hard_link(&mut self, location: Location<'_>, target: &[u8]) -> Result<(), LayerProblem> {
        let inode = self.link_target(target)?;
        if self.lookup(location.parent, location.name) == Some(inode) {
            return self.mark_layer(location);
        }
        if self.inode(inode).links >= MAX_NAMES {
            return Err(LayerProblem::TooManyNames { target: text(target) });
        }
        self.unlink(location.parent, location.name);
        // The name just removed may have been a directory that contained the target.
        if self.inode(inode).links == 0 {
            return Err(LayerProblem::LinkMissing { target: text(target) });
        }
        self.add_name(location, inode)
    }

    fn link_target(&mut self, target: &[u8]) -> Result<InodeId, LayerProblem> {
        let missing = || LayerProblem::LinkMissing { target: text(target) };
        let parts = components(target)?;
        if contains_parent(&parts) {
            return Err(LayerProblem::LinkClimbs { target: text(target) });
        }
        let (name, parents) = parts.split_last().ok_or_else(missing)?;
        let parent = self.walk(parents, Missing::Ignore)?.ok_or_else(missing)?;
        let inode = self.lookup(parent, name).ok_or_else(missing)?;
        match self.directory(inode) {
            Some(_) => Err(LayerProblem::LinkToDirectory { target: text(target) }),
            None => Ok(inode),
        }
    }

    fn lookup(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        self.directory(parent)?.names.get(name).map(|name| name.inode)
    }

    fn add_name(&mut self, location: Location<'_>, inode: InodeId) -> Result<(), LayerProblem> {
        let name = Name { inode, layer: location.layer };
        let directory = self.directory_mut(location.parent).ok_or(LayerProblem::Root)?;
        directory.names.insert(location.name.to_owned(), name);
        self.inode_mut(inode).links += 1;
        Ok(())
    }

    fn mark_layer(&mut self, location: Location<'_>) -> Result<(), LayerProblem> {
        let directory = self.directory_mut(location.parent).ok_or(LayerProblem::Root)?;
        if let Some(name) = directory.names.get_mut(location.name) {
            name.layer = location.layer;
        }
        Ok(())
    }

    /// Removes a name, and everything below a directory. Not recursive, because the depth is untrusted input.
    pub(super) fn unlink(&mut self, parent: InodeId, name: &[u8]) {
        let dropped = self.directory_mut(parent).and_then(|directory| directory.names.remove(name));
        let mut pending: Vec<InodeId> = dropped.map(|name| name.inode).into_iter().collect();
        while let Some(id) = pending.pop() {
            let inode = self.inode_mut(id);
            inode.links = inode.links.saturating_sub(1);
            if let Node::Directory(directory) = &mut inode.node {
                pending.extend(std::mem::take(&mut directory.names).into_values().map(|name| name.inode));
            }
        }
    }

    fn apply_whiteout(&mut self, layer: usize, parents: &[&[u8]], name: &[u8]) -> Result<(), LayerProblem> {
        if name != OPAQUE && name.starts_with(AUFS_METADATA) {
            return Ok(());
        }
        let Some(parent) = self.walk(parents, Missing::Ignore)? else { return Ok(()) };
        if name == OPAQUE {
            self.hide_lower(parent, layer);
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerProblem::BadWhiteout);
        }
        self.hide(parent, hidden, layer);
        Ok(())
    }

    /// Removes a name of lower layers, regardless of the order of the entries in this layer.
    fn hide(&mut self, parent: InodeId, name: &[u8], layer: usize) {
        let Some(found) = self.directory(parent).and_then(|d| d.names.get(name)).copied() else { return };
        match self.directory(found.inode) {
            _ if found.layer != layer => self.unlink(parent, name),
            Some(_) => self.hide_lower(found.inode, layer),
            None => {}
        }
    }

    /// Removes from a directory, at all depths, the entries that this layer did not add.
    fn hide_lower(&mut self, directory: InodeId, layer: usize) {
        let mut pending = vec![directory];
        while let Some(at) = pending.pop() {
            let Some(directory) = self.directory(at) else { continue };
            let (own, lower): (Vec<_>, Vec<_>) =
                directory.names.iter().partition(|(_, name)| name.layer == layer);
            pending.extend(own.iter().map(|(_, name)| name.inode));
            for name in lower.into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                self.unlink(at, &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Content;

    fn empty() -> Tree {
        Tree { inodes: vec![Inode::directory(ROOT, Meta::implied((0, 0)))] }
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        let meta = Meta { mode: 0o644, uid: 1, gid: 2, mtime: (5, 0) };
        Entry { path: path.into(), kind, meta, xattrs: Vec::new() }
    }

    fn file() -> Kind {
        Kind::File(Content { start: 0, size: 0, data: Vec::new() })
    }

    fn apply(tree: &mut Tree, layer: usize, path: &str, kind: Kind) {
        tree.apply(layer, entry(path, kind)).unwrap();
    }

    fn refused(tree: &mut Tree, path: &str, kind: Kind) -> LayerProblem {
        tree.apply(9, entry(path, kind)).unwrap_err()
    }

    /// All paths of the tree; directories end with a slash.
    fn paths(tree: &Tree) -> Vec<String> {
        let mut out = Vec::new();
        let mut pending = vec![(ROOT, String::new())];
        while let Some((id, prefix)) = pending.pop() {
            for (name, found) in &tree.directory(id).unwrap().names {
                let path = format!("{prefix}{}", text(name));
                match tree.directory(found.inode) {
                    Some(_) => {
                        out.push(format!("{path}/"));
                        pending.push((found.inode, format!("{path}/")));
                    }
                    None => out.push(path),
                }
            }
        }
        out.sort();
        out
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let mut tree = empty();
        apply(&mut tree, 0, "a/x", file());
        apply(&mut tree, 0, "a/y", file());
        apply(&mut tree, 1, "a/z", file());
        apply(&mut tree, 1, "a/.wh.x", file());
        apply(&mut tree, 1, "a/.wh.z", file());
        assert_eq!(paths(&tree), ["a/", "a/y", "a/z"]);
    }

    #[test]
    fn an_opaque_directory_keeps_entries_of_its_own_layer_in_any_order() {
        let mut tree = empty();
        apply(&mut tree, 0, "d/old/deep", file());
        apply(&mut tree, 0, "d/sub/low", file());
        apply(&mut tree, 1, "d/sub/new", file());
        apply(&mut tree, 1, "d/.wh..wh..opq", file());
        apply(&mut tree, 1, "d/later", file());
        assert_eq!(paths(&tree), ["d/", "d/later", "d/sub/", "d/sub/new"]);
    }

    #[test]
    fn whiteouts_of_missing_names_and_aufs_metadata_are_ignored() {
        let mut tree = empty();
        for path in ["gone/.wh.x", ".wh.x", ".wh..wh.plnk", ".wh..wh.aufs"] {
            apply(&mut tree, 0, path, file());
        }
        assert!(paths(&tree).is_empty());
    }

    #[test]
    fn kinds_replace_each_other() {
        let mut tree = empty();
        apply(&mut tree, 0, "a/b", file());
        apply(&mut tree, 1, "a", file());
        assert_eq!(paths(&tree), ["a"]);
        apply(&mut tree, 2, "a", Kind::Directory);
        apply(&mut tree, 2, "a/c", file());
        assert_eq!(paths(&tree), ["a/", "a/c"]);
        assert_eq!(tree.live().count(), 3);
    }

    #[test]
    fn symlinked_parents_stay_inside_the_image() {
        let mut tree = empty();
        apply(&mut tree, 0, "usr/lib", Kind::Directory);
        apply(&mut tree, 0, "lib", Kind::Symlink("usr/lib".into()));
        apply(&mut tree, 0, "up", Kind::Symlink("../../../../usr".into()));
        apply(&mut tree, 0, "abs", Kind::Symlink("/usr/new".into()));
        apply(&mut tree, 1, "lib/x", file());
        apply(&mut tree, 1, "up/y", file());
        apply(&mut tree, 1, "abs/z", file());
        assert_eq!(
            paths(&tree),
            ["abs", "lib", "up", "usr/", "usr/lib/", "usr/lib/x", "usr/new/", "usr/new/z", "usr/y"]
        );
    }

    #[test]
    fn a_directory_replaces_a_link_of_its_name() {
        let mut tree = empty();
        apply(&mut tree, 0, "usr/lib/x", file());
        apply(&mut tree, 0, "lib", Kind::Symlink("usr/lib".into()));
        apply(&mut tree, 1, "lib", Kind::Directory);
        apply(&mut tree, 1, "lib/y", file());
        assert_eq!(paths(&tree), ["lib/", "lib/y", "usr/", "usr/lib/", "usr/lib/x"]);
    }

    #[test]
    fn hard_links_share_an_inode_and_outlive_their_first_name() {
        let mut tree = empty();
        apply(&mut tree, 0, "a", file());
        apply(&mut tree, 0, "b", Kind::HardLink("./a".into()));
        assert_eq!(tree.lookup(ROOT, b"a"), tree.lookup(ROOT, b"b"));
        apply(&mut tree, 0, "b", Kind::HardLink("/a".into()));
        apply(&mut tree, 1, ".wh.a", file());
        assert_eq!(paths(&tree), ["b"]);
        assert_eq!(tree.live().count(), 2);
    }

    #[test]
    fn escapes_are_refused() {
        let mut tree = empty();
        apply(&mut tree, 0, "d", Kind::Directory);
        assert!(matches!(refused(&mut tree, "../x", file()), LayerProblem::Climbs));
        assert!(matches!(refused(&mut tree, "d/../../x", file()), LayerProblem::Climbs));
        assert!(matches!(
            refused(&mut tree, "h", Kind::HardLink("../x".into())),
            LayerProblem::LinkClimbs { .. }
        ));
        assert!(matches!(
            refused(&mut tree, "h", Kind::HardLink("x".into())),
            LayerProblem::LinkMissing { .. }
        ));
        assert!(matches!(
            refused(&mut tree, "h", Kind::HardLink("d".into())),
            LayerProblem::LinkToDirectory { .. }
        ));
        assert!(matches!(refused(&mut tree, "d/.wh...", file()), LayerProblem::BadWhiteout));
        assert!(matches!(refused(&mut tree, "/", file()), LayerProblem::Root));
    }

    #[test]
    fn symlink_loops_are_refused() {
        let mut tree = empty();
        apply(&mut tree, 0, "a", Kind::Symlink("b".into()));
        apply(&mut tree, 0, "b", Kind::Symlink("a".into()));
        assert!(matches!(refused(&mut tree, "a/x", file()), LayerProblem::TooManyLinks { .. }));
        apply(&mut tree, 0, "f", file());
        assert!(matches!(refused(&mut tree, "f/x", file()), LayerProblem::NotADirectory { .. }));
    }

    #[test]
    fn long_names_are_refused() {
        let mut tree = empty();
        let long = "n".repeat(256);
        assert!(matches!(refused(&mut tree, &long, file()), LayerProblem::NameTooLong { bytes: 256, .. }));
    }

    #[test]
    fn deep_trees_are_handled_without_recursion() {
        let mut tree = empty();
        let deep = "d/".repeat(2000);
        for _ in 0..3 {
            apply(&mut tree, 0, &deep, Kind::Directory);
        }
        apply(&mut tree, 1, ".wh.d", file());
        assert!(paths(&tree).is_empty());
    }
}
