//! `--sort`: the order of the images.

use std::cmp::Reverse;

use super::Line;

/// podman's keys.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum SortKey {
    /// The time of creation, newest first
    Created,
    /// The id
    Id,
    /// The repository
    Repository,
    /// The size, largest first
    Size,
    /// The tag
    Tag,
}

/// Sorts the lines.
pub(super) fn sort(lines: &mut [Line], key: SortKey) {
    match key {
        SortKey::Created => lines.sort_by_key(|line| Reverse(line.time)),
        SortKey::Id => lines.sort_by(|one, other| one.id.cmp(&other.id)),
        SortKey::Repository => lines.sort_by(|one, other| one.repository.cmp(&other.repository)),
        SortKey::Size => lines.sort_by_key(|line| Reverse(line.bytes)),
        SortKey::Tag => lines.sort_by(|one, other| one.tag.cmp(&other.tag)),
    }
}
