//! Finds held mutexes. The C library writes the owner's thread id into some of them and compares it at the
//! unlock; the threads of a restored process have other ids.

use std::fs::File;
use std::path::Path;

use crate::error::{CheckpointError, unsupported};
use crate::fence::Tid;
use crate::maps::{self, MappingKind};
use crate::pages::{self, CHUNK};
use crate::tracee::Memory;

/// The address of an owner's TID, and the owner's index among the threads.
pub(crate) type MutexOwner = (u64, usize);

/// The owner TIDs in all mutexes and rwlocks that threads of a stopped process hold.
pub(crate) fn find_owners(
    pid: Tid,
    memory: &Memory,
    external: Option<&Path>,
    tids: &[Tid],
) -> Result<Vec<MutexOwner>, CheckpointError> {
    let pagemap = pages::pagemap(pid)?;
    let mut candidates = Vec::new();
    for area in maps::read_maps(pid)? {
        let is_external = matches!(&area.kind, MappingKind::File(path) if Some(path.as_path()) == external);
        if area.rights.write && !area.shared && !is_external {
            scan_area(&area, &pagemap, memory, tids, &mut candidates)?;
        }
    }
    candidates.into_iter().filter_map(|address| owner_at(address, memory, tids).transpose()).collect()
}

fn scan_area(
    area: &maps::Area,
    pagemap: &File,
    memory: &Memory,
    tids: &[Tid],
    found: &mut Vec<u64>,
) -> Result<(), CheckpointError> {
    let mut buffer = vec![0; CHUNK];
    for (start, end) in pages::own_pages(pagemap, area)? {
        for address in (start..end).step_by(CHUNK) {
            let chunk = &mut buffer[..CHUNK.min((end - address) as usize)];
            memory.read(address, chunk)?;
            found.extend(candidates(address, chunk, tids));
        }
    }
    Ok(())
}

/// Addresses in a chunk of memory whose word equals a TID.
fn candidates(address: u64, chunk: &[u8], tids: &[Tid]) -> Vec<u64> {
    let (Some(least), Some(most)) = (tids.iter().min(), tids.iter().max()) else { return Vec::new() };
    let words = chunk.chunks_exact(8).zip((address..).step_by(8));
    let found = words.filter(|(word, _)| {
        let word = Tid::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        (least..=most).contains(&&word) && tids.contains(&word)
    });
    found.map(|(_, address)| address).collect()
}

/// The owner at `address`, if that lies in a held mutex or rwlock.
fn owner_at(address: u64, memory: &Memory, tids: &[Tid]) -> Result<Option<MutexOwner>, CheckpointError> {
    let mutex = read_around::<MUTEX_BYTES>(address, MUTEX_OWNER_OFFSET, memory);
    let rwlock = read_around::<RWLOCK_BYTES>(address, RWLOCK_WRITER_OFFSET, memory);
    let mut tid = [0; 4];
    memory.read(address, &mut tid)?;
    let tid = u32::from_ne_bytes(tid);
    if mutex.as_ref().is_some_and(|bytes| is_inheriting_mutex(bytes, tid)) {
        return Err(unsupported(format!("a priority-inheriting mutex is held at {address:x}")));
    }
    let is_lock =
        mutex.is_some_and(|bytes| is_mutex(&bytes)) || rwlock.is_some_and(|bytes| is_rwlock(&bytes));
    let thread = tids.iter().position(|thread| is_lock && *thread as u32 == tid);
    Ok(thread.map(|thread| (address, thread)))
}

/// The bytes of a structure that has the word at `address` at `offset`. None if it is not all mapped: it is
/// no lock then.
fn read_around<const BYTES: usize>(address: u64, offset: u64, memory: &Memory) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    memory.read(address.checked_sub(offset)?, &mut bytes).ok()?;
    Some(bytes)
}

fn read_word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Bytes of a `pthread_mutex_t`: lock, count, owner, users, kind, spins, list.
const MUTEX_BYTES: usize = 40;
/// The offset of the owner's TID.
const MUTEX_OWNER_OFFSET: u64 = 8;
/// Normal, recursive, error-checking and adaptive mutexes, and the flag of those that may be elided.
const USER_KINDS: u32 = 0x103;
/// Mutexes with priority inheritance.
const INHERITING: u32 = 0x20;
/// The bits of a lock word that are a TID.
const TID_MASK: u32 = 0x3fff_ffff;
/// Higher than any counter of a real lock.
const MAX_COUNT: u32 = 1 << 16;

fn is_mutex(bytes: &[u8; MUTEX_BYTES]) -> bool {
    matches!(read_word(bytes, 0), 1 | 2)
        && read_word(bytes, 4) < MAX_COUNT
        && (1..MAX_COUNT).contains(&read_word(bytes, 12))
        && read_word(bytes, 16) & !USER_KINDS == 0
        && bytes[24..].iter().all(|byte| *byte == 0)
}

/// A mutex with priority inheritance, whose lock word the kernel reads, and whose owner it records. Robust mutexes are not looked
/// for here: one that is held is in its thread's list, with which the thread is refused. Data with a small TID and two pointers,
/// as the allocator has it, would pass for one now and then.
fn is_inheriting_mutex(bytes: &[u8; MUTEX_BYTES], tid: u32) -> bool {
    let kind = read_word(bytes, 16);
    read_word(bytes, 0) & TID_MASK == tid
        && read_word(bytes, 4) < MAX_COUNT
        && (1..MAX_COUNT).contains(&read_word(bytes, 12))
        && kind & INHERITING != 0
        && kind & !(USER_KINDS | INHERITING | 0x80) == 0
        && bytes[24..].iter().all(|byte| *byte == 0)
}

/// Bytes of a `pthread_rwlock_t`: readers, writers, two futexes, two paddings, writer, shared, elision, padding, flags.
const RWLOCK_BYTES: usize = 56;
/// The offset of the writer's TID.
const RWLOCK_WRITER_OFFSET: u64 = 24;
/// In `readers`: locked by a writer.
const WRITE_LOCKED: u32 = 3;

fn is_rwlock(bytes: &[u8; RWLOCK_BYTES]) -> bool {
    let (readers, writers) = (read_word(bytes, 0), read_word(bytes, 4));
    // The highest bit says that a writer hands the lock over to the next.
    let waiting = writers & !(1 << 31);
    readers & WRITE_LOCKED == WRITE_LOCKED
        && readers >> 3 < MAX_COUNT
        && waiting < MAX_COUNT
        && read_word(bytes, 8) < 4
        && read_word(bytes, 12) < 4
        && read_word(bytes, 28) < 2
        && read_word(bytes, 48) < 3
        && [&bytes[16..24], &bytes[32..48], &bytes[52..]].concat().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A held mutex of this kind with these links, as the C library lays it out.
    fn mutex(kind: u32, links: [u64; 2]) -> [u8; MUTEX_BYTES] {
        let words = [7, 0, 7, 1, kind, 0].map(u32::to_ne_bytes).concat();
        let links = links.map(u64::to_ne_bytes).concat();
        [words, links].concat().try_into().expect("40 bytes")
    }

    #[test]
    fn only_mutexes_with_priority_inheritance_are_found() {
        let listed = [0x7f00_0000_1000, 0x7f00_0000_2000];
        assert!(is_inheriting_mutex(&mutex(0x20, [0, 0]), 7));
        // Pointers where a robust mutex has its list.
        for other in [mutex(0x10, listed), mutex(0x30, listed), mutex(0x20, listed), mutex(0, [0, 0])] {
            assert!(!is_inheriting_mutex(&other, 7), "{other:?}");
        }
        assert!(!is_inheriting_mutex(&mutex(0x20, [0, 0]), 8));
    }

    #[test]
    fn words_that_equal_a_tid_are_candidates() {
        let mut chunk = [0; 64];
        chunk[8..12].copy_from_slice(&77i32.to_ne_bytes());
        chunk[20..24].copy_from_slice(&77i32.to_ne_bytes());
        chunk[40..44].copy_from_slice(&78i32.to_ne_bytes());
        assert_eq!(candidates(0x1000, &chunk, &[77, 79]), [0x1008]);
        assert_eq!(candidates(0x1000, &chunk, &[]), [0; 0]);
    }
}
