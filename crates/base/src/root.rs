//! Finds the root filesystem of a disk.

use crate::filesystem::{Filesystem, identify};
use crate::manifest::RootFilesystem;
use crate::partition::Table;
use crate::system::{init, os_release};
use crate::tree::Tree;
use crate::window::Window;

/// The result of the search.
pub(crate) enum Root {
    /// A filesystem with a system in it.
    Tree { root: RootFilesystem, tree: Tree },
    /// The largest filesystem that may hold a system, but cannot be looked into.
    Opaque(RootFilesystem),
    /// There is none; the text says what was found instead.
    Missing(String),
}

/// A place where the root filesystem may be.
struct Candidate {
    partition: Option<u32>,
    part: Window,
}

/// Finds the root filesystem among the partitions, or on the whole disk if there is no partition table.
pub(crate) fn find_root(disk: &Window, table: Option<&Table>) -> Root {
    let mut found = Vec::new();
    let mut opaque: Option<(u64, RootFilesystem)> = None;
    for candidate in candidates(disk, table) {
        let filesystem = identify(&candidate.part);
        match filesystem {
            Some(Filesystem::Ext(name)) => match candidate.open(name) {
                Ok(root) => return root,
                Err(reason) => found.push(candidate.describe(&format!("{name}, {reason}"))),
            },
            Some(Filesystem::Opaque(name)) => {
                let bytes = candidate.part.bytes();
                if opaque.as_ref().is_none_or(|(largest, _)| bytes > *largest) {
                    opaque = Some((bytes, candidate.root(name, None)));
                }
            }
            other => found.push(candidate.describe(other.map_or("no known filesystem", Filesystem::name))),
        }
    }
    match opaque {
        Some((_, root)) => Root::Opaque(root),
        None if found.is_empty() => Root::Missing("there is no partition".to_owned()),
        None => Root::Missing(format!("none found ({})", found.join("; "))),
    }
}

fn candidates(disk: &Window, table: Option<&Table>) -> Vec<Candidate> {
    let Some(table) = table else { return vec![Candidate { partition: None, part: disk.clone() }] };
    let candidate = |partition: &crate::partition::Partition| Candidate {
        partition: Some(partition.number),
        part: disk.part(partition.start, partition.bytes),
    };
    table.partitions.iter().map(candidate).collect()
}

impl Candidate {
    /// Opens the filesystem, if there is a system in it; otherwise why not.
    fn open(&self, name: &str) -> Result<Root, String> {
        let tree = Tree::open(&self.part).map_err(|error| error.to_string())?;
        let missing = match (os_release::exists(&tree), init::find(&tree).is_some()) {
            (true, true) => {
                let root = self.root(name, Some(tree.uuid()));
                return Ok(Root::Tree { root, tree });
            }
            (true, false) => "no init",
            (false, true) => "no os-release",
            (false, false) => "no init and no os-release",
        };
        let problems = tree.take_problems();
        Err(problems
            .first()
            .map_or_else(|| format!("{missing} in it"), |first| format!("{missing} in it ({first})")))
    }

    fn root(&self, filesystem: &str, uuid: Option<String>) -> RootFilesystem {
        RootFilesystem { partition: self.partition, filesystem: filesystem.to_owned(), uuid }
    }

    fn describe(&self, content: &str) -> String {
        match self.partition {
            Some(number) => format!("partition {number}: {content}"),
            None => format!("the whole disk: {content}"),
        }
    }
}
