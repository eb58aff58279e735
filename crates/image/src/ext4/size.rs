//! Estimates the size of the image: an upper bound of what the tree needs, plus a margin.

use crate::layer::Content;
use crate::tree::{Node, Tree};

const BLOCK: u64 = 4096;
const GROUP_BLOCKS: u64 = 32_768;
const INODES_PER_GROUP: u64 = 32_768;
const INODES_PER_BLOCK: u64 = 16;
/// ext4 reserves inodes 1 to 11.
const RESERVED_INODES: u64 = 11;
/// Longer symlink targets take a block.
const MAX_INLINE_LINK: usize = 59;
/// A directory record is its name and 8 bytes, padded to 4; leaves of large directories are half full at worst.
const RECORD_OVERHEAD: usize = 12;
/// A smaller last group could not hold its own tables.
const MIN_LAST_GROUP: u64 = 2048;
/// mkext4 requires space for four journals.
const MIN_BLOCKS: u64 = 4 * 1024 + 64;
/// How often a refused layout is retried with more space. Each time adds an eighth.
pub(super) const MAX_GROWTHS: usize = 8;

/// Size and inode count of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    blocks: u64,
    inodes: u64,
}

impl Plan {
    pub(super) fn estimate(tree: &Tree) -> Self {
        let inodes = tree.live().count() as u64 + RESERVED_INODES;
        let content: u64 =
            tree.live().map(|inode| node_blocks(&inode.node) + u64::from(!inode.xattrs.is_empty())).sum();
        let tables = inodes.div_ceil(INODES_PER_BLOCK) + u64::from(super::JOURNAL_BLOCKS);
        // Rounding of inode tables, lost+found, extent trees: an eighth of a percent each, and 2 MiB.
        let needed = content + tables + content / 64 + 512;
        let groups = needed.div_ceil(GROUP_BLOCKS).max(inodes.div_ceil(INODES_PER_GROUP));
        let per_group = 2 + INODES_PER_BLOCK + 2 * (1 + groups / 128 + 1);
        let min_blocks = (groups - 1) * GROUP_BLOCKS + MIN_LAST_GROUP;
        let floor = if groups > needed.div_ceil(GROUP_BLOCKS) { min_blocks } else { MIN_BLOCKS };
        Self { blocks: whole_groups((needed + groups * per_group).max(floor).max(MIN_BLOCKS)), inodes }
    }

    pub(super) fn grow(&mut self) {
        self.blocks = whole_groups(self.blocks + self.blocks / 8);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks * BLOCK
    }

    /// The inode count in ext4's 32 bits.
    pub(super) fn inodes(&self) -> u32 {
        u32::try_from(self.inodes).unwrap_or(u32::MAX)
    }
}

/// Rounds up so that the last group is either whole or large enough.
fn whole_groups(blocks: u64) -> u64 {
    match blocks % GROUP_BLOCKS {
        0 => blocks,
        last => blocks + MIN_LAST_GROUP.saturating_sub(last),
    }
}

fn node_blocks(node: &Node) -> u64 {
    match node {
        Node::Directory(directory) => directory_blocks(directory.names.keys()),
        Node::File { content, .. } => content_blocks(content),
        Node::Symlink(target) => u64::from(target.len() > MAX_INLINE_LINK),
        Node::Char { .. } | Node::Block { .. } | Node::Fifo => 0,
    }
}

fn directory_blocks<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> u64 {
    let bytes: u64 = names.map(|name| (name.len() + RECORD_OVERHEAD) as u64).sum();
    match bytes / 4000 {
        0 => 1,
        blocks => 2 * blocks + 3,
    }
}

/// An extent covers at most 128 MiB, and each range starts a new extent; a block of the extent tree holds 340.
fn content_blocks(content: &Content) -> u64 {
    let data: u64 = content.data.iter().map(|(_, length)| length.div_ceil(BLOCK)).sum();
    let extents = content.data.len() as u64 + data / GROUP_BLOCKS;
    data + if extents > 3 { extents / 340 + 2 } else { 0 }
}
