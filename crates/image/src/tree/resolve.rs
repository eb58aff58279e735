//! Resolves paths within the image. Symbolic links are followed as by a process whose root is the image: `..` in the
//! root stays in the root, so no path leads outside.

use std::collections::VecDeque;

use super::{Inode, InodeId, Name, Node, ROOT, Tree};
use crate::layer::{LayerProblem, Meta, text};
use crate::limits::{MAX_LINKS, MAX_NAME};

/// Splits a path into its components, without `.` and empty ones. A leading `/` is the image's root.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, LayerProblem> {
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    match parts.iter().map(|part| part.len()).max() {
        Some(bytes) if bytes > MAX_NAME => Err(LayerProblem::NameTooLong { bytes, limit: MAX_NAME }),
        _ => Ok(parts),
    }
}

pub(super) fn contains_parent(parts: &[&[u8]]) -> bool {
    parts.contains(&b"..".as_slice())
}

/// How to handle a missing directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Missing {
    /// Create it, for an entry of this layer with this time.
    Create { layer: usize, mtime: (i64, u32) },
    /// Do not create it.
    Ignore,
}

impl Tree {
    /// The directory at `parts`; none if it is missing and not created.
    pub(super) fn walk(
        &mut self,
        parts: &[&[u8]],
        missing: Missing,
    ) -> Result<Option<InodeId>, LayerProblem> {
        let mut rest: VecDeque<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let mut at = ROOT;
        let mut followed = 0;
        while let Some(part) = rest.pop_front() {
            let Some(next) = self.resolve_component(at, &part, missing)? else { return Ok(None) };
            match &self.inode(next).node {
                Node::Directory(_) => at = next,
                Node::Symlink(target) => {
                    followed += 1;
                    check_followed(followed)?;
                    at = if target.starts_with(b"/") { ROOT } else { at };
                    push_front(&mut rest, target)?;
                }
                _ => return Err(LayerProblem::NotADirectory { path: text(&parts.join(&b'/')) }),
            }
        }
        Ok(Some(at))
    }

    fn resolve_component(
        &mut self,
        at: InodeId,
        part: &[u8],
        missing: Missing,
    ) -> Result<Option<InodeId>, LayerProblem> {
        let directory = self.directory_mut(at).ok_or(LayerProblem::Root)?;
        if part == b".." {
            return Ok(Some(directory.parent));
        }
        if let Some(name) = directory.names.get_mut(part) {
            if let Missing::Create { layer, .. } = missing {
                name.layer = layer;
            }
            return Ok(Some(name.inode));
        }
        match missing {
            Missing::Create { layer, mtime } => Ok(Some(self.create_implied(at, part, layer, mtime)?)),
            Missing::Ignore => Ok(None),
        }
    }

    fn create_implied(
        &mut self,
        parent: InodeId,
        name: &[u8],
        layer: usize,
        mtime: (i64, u32),
    ) -> Result<InodeId, LayerProblem> {
        let inode = self.add(Inode::directory(parent, Meta::implied(mtime)));
        let directory = self.directory_mut(parent).ok_or(LayerProblem::Root)?;
        directory.names.insert(name.to_owned(), Name { inode, layer });
        Ok(inode)
    }

    pub(super) fn add(&mut self, inode: Inode) -> InodeId {
        // The limit on entries is far below 2^32.
        let id = InodeId(self.inodes.len() as u32);
        self.inodes.push(inode);
        id
    }
}

fn check_followed(followed: usize) -> Result<(), LayerProblem> {
    if followed > MAX_LINKS { Err(LayerProblem::TooManyLinks { limit: MAX_LINKS }) } else { Ok(()) }
}

fn push_front(rest: &mut VecDeque<Vec<u8>>, target: &[u8]) -> Result<(), LayerProblem> {
    for part in components(target)?.into_iter().rev() {
        rest.push_front(part.to_owned());
    }
    Ok(())
}
