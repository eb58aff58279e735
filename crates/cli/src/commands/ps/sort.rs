//! `--sort`: the order of the machines.

use super::{Entry, size::Size};

/// podman's keys.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum SortKey {
    /// The command
    Command,
    /// The time of creation, oldest first
    Created,
    /// The id
    Id,
    /// The image's name
    Image,
    /// The name
    Names,
    /// The time of creation, newest first
    Runningfor,
    /// The disk space that was written; needs --size
    Size,
    /// The state
    Status,
}

/// Sorts the machines.
pub(super) fn sort(entries: &mut [Entry], key: SortKey) {
    match key {
        SortKey::Command => entries.sort_by_cached_key(|entry| entry.found.record.process.args.clone()),
        SortKey::Created => entries.sort_by_key(|entry| entry.found.record.times.created),
        SortKey::Runningfor => {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.found.record.times.created));
        }
        SortKey::Id => entries.sort_by_cached_key(|entry| entry.found.record.id.to_string()),
        SortKey::Image => entries.sort_by(|one, other| one.image.cmp(&other.image)),
        SortKey::Names => entries.sort_by_cached_key(|entry| entry.found.record.name.to_string()),
        SortKey::Size => entries.sort_by_key(|entry| entry.size.as_ref().map_or(0, Size::written)),
        SortKey::Status => entries.sort_by_key(|entry| crate::view::state(entry.found.record.phase())),
    }
}
