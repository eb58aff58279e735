//! Locks that are held: the C library writes the thread id of the owner into some of them and compares it at the unlock.
//! Threads of a restored process have other ids.

use std::fs::File;
use std::path::Path;

use crate::error::{CheckpointError, unsupported};
use crate::fence::Tid;
use crate::maps::{self, Of};
use crate::pages::{self, PIECE};
use crate::tracee::Memory;

/// The address of an owner's id, and the owner's index among the threads.
pub(crate) type Owner = (u64, usize);

/// The locks that threads of a stopped process hold.
pub(crate) fn held(
    pid: Tid,
    memory: &Memory,
    external: Option<&Path>,
    tids: &[Tid],
) -> Result<Vec<Owner>, CheckpointError> {
    let pagemap = pages::pagemap(pid)?;
    let mut candidates = Vec::new();
    for area in maps::areas(pid)? {
        let is_external = matches!(&area.of, Of::File(path) if Some(path.as_path()) == external);
        if area.rights.write && !area.shared && !is_external {
            find(&area, &pagemap, memory, tids, &mut candidates)?;
        }
    }
    candidates.into_iter().filter_map(|address| owner(address, memory, tids).transpose()).collect()
}

fn find(
    area: &maps::Area,
    pagemap: &File,
    memory: &Memory,
    tids: &[Tid],
    found: &mut Vec<u64>,
) -> Result<(), CheckpointError> {
    let mut buffer = vec![0; PIECE];
    for (start, end) in pages::own_pages(pagemap, area)? {
        for address in (start..end).step_by(PIECE) {
            let piece = &mut buffer[..PIECE.min((end - address) as usize)];
            memory.read(address, piece)?;
            found.extend(candidates(address, piece, tids));
        }
    }
    Ok(())
}

/// Words of a piece of memory that may be the ids of owners.
fn candidates(address: u64, piece: &[u8], tids: &[Tid]) -> Vec<u64> {
    let (Some(least), Some(most)) = (tids.iter().min(), tids.iter().max()) else { return Vec::new() };
    let words = piece.chunks_exact(8).zip((address..).step_by(8));
    let found = words.filter(|(word, _)| {
        let word = Tid::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        (least..=most).contains(&&word) && tids.contains(&word)
    });
    found.map(|(_, address)| address).collect()
}

/// The owner at `address`, if a lock is around it.
fn owner(address: u64, memory: &Memory, tids: &[Tid]) -> Result<Option<Owner>, CheckpointError> {
    let mutex = around::<MUTEX>(address, MUTEX_OWNER, memory);
    let rwlock = around::<RWLOCK>(address, RWLOCK_WRITER, memory);
    let mut id = [0; 4];
    memory.read(address, &mut id)?;
    let id = u32::from_ne_bytes(id);
    if mutex.as_ref().is_some_and(|bytes| is_mutex_of_the_kernel(bytes, id)) {
        return Err(unsupported(format!("it holds a robust or priority-inheriting mutex at {address:x}")));
    }
    let is_lock =
        mutex.is_some_and(|bytes| is_mutex(&bytes)) || rwlock.is_some_and(|bytes| is_rwlock(&bytes));
    let thread = tids.iter().position(|tid| is_lock && *tid as u32 == id);
    Ok(thread.map(|thread| (address, thread)))
}

/// The bytes of what has the word at `address` at `offset`. What reaches out of what is mapped is no lock.
fn around<const BYTES: usize>(address: u64, offset: u64, memory: &Memory) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    memory.read(address.checked_sub(offset)?, &mut bytes).ok()?;
    Some(bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Bytes of a `pthread_mutex_t`: lock, count, owner, users, kind, spins, list.
const MUTEX: usize = 40;
/// Where the owner's id is in it.
const MUTEX_OWNER: u64 = 8;
/// Normal, recursive, error checking and adaptive ones; and the mark of those that may be elided.
const KINDS: u32 = 0x103;
/// Robust ones, and those with priority inheritance.
const KERNEL_KINDS: u32 = 0x30;
/// The part of a lock's word that is an id.
const ID: u32 = 0x3fff_ffff;
/// More than anybody counts.
const MANY: u32 = 1 << 16;

fn is_mutex(bytes: &[u8; MUTEX]) -> bool {
    matches!(word(bytes, 0), 1 | 2)
        && word(bytes, 4) < MANY
        && (1..MANY).contains(&word(bytes, 12))
        && word(bytes, 16) & !KINDS == 0
        && bytes[24..].iter().all(|byte| *byte == 0)
}

/// A mutex whose word the kernel reads, and of whose owner it keeps a note of its own.
fn is_mutex_of_the_kernel(bytes: &[u8; MUTEX], id: u32) -> bool {
    let kind = word(bytes, 16);
    word(bytes, 0) & ID == id
        && word(bytes, 4) < MANY
        && (1..MANY).contains(&word(bytes, 12))
        && kind & KERNEL_KINDS != 0
        && kind & !(KINDS | KERNEL_KINDS | 0x80) == 0
}

/// Bytes of a `pthread_rwlock_t`: readers, writers, two futexes, two paddings, writer, shared, elision, padding, flags.
const RWLOCK: usize = 56;
/// Where the writer's id is in it.
const RWLOCK_WRITER: u64 = 24;
/// In `readers`: a writer has it.
const WRITE_LOCKED: u32 = 3;

fn is_rwlock(bytes: &[u8; RWLOCK]) -> bool {
    let (readers, writers) = (word(bytes, 0), word(bytes, 4));
    // The highest bit says that a writer hands over to the next.
    let waiting = writers & !(1 << 31);
    readers & WRITE_LOCKED == WRITE_LOCKED
        && readers >> 3 < MANY
        && waiting < MANY
        && word(bytes, 8) < 4
        && word(bytes, 12) < 4
        && word(bytes, 28) < 2
        && word(bytes, 48) < 3
        && [&bytes[16..24], &bytes[32..48], &bytes[52..]].concat().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_ids_are_found() {
        let mut piece = [0; 64];
        piece[8..12].copy_from_slice(&77i32.to_ne_bytes());
        piece[20..24].copy_from_slice(&77i32.to_ne_bytes());
        piece[40..44].copy_from_slice(&78i32.to_ne_bytes());
        assert_eq!(candidates(0x1000, &piece, &[77, 79]), [0x1008]);
        assert_eq!(candidates(0x1000, &piece, &[]), [0; 0]);
    }
}
