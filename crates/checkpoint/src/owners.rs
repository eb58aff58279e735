//! Locks that are held: the C library writes the holder's id into some of them and compares it at the unlock. Threads of
//! a process that begins as another have other ids.

use crate::error::CheckpointError;
use crate::fence::Tid;
use crate::tracee::Memory;

/// Bytes of a `pthread_mutex_t`.
const MUTEX: usize = 40;
/// Where the holder's id is in it.
const OWNER: u64 = 8;
/// Normal, recursive, error checking and adaptive ones; and the mark of those that may be elided.
const KINDS: u32 = 0x103;
/// More than anybody counts.
const MANY: u32 = 1 << 16;

/// Words of a piece of memory that may be the holders of locks.
pub(crate) fn candidates(address: u64, piece: &[u8], tids: &[Tid]) -> Vec<u64> {
    let (Some(least), Some(most)) = (tids.iter().min(), tids.iter().max()) else { return Vec::new() };
    let words = piece.chunks_exact(8).zip((address..).step_by(8));
    let found = words.filter(|(word, _)| {
        let word = Tid::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        (least..=most).contains(&&word) && tids.contains(&word)
    });
    found.map(|(_, address)| address).collect()
}

/// Which of the threads holds the lock whose holder is at `address`, if it is one.
pub(crate) fn holder(address: u64, memory: &Memory, tids: &[Tid]) -> Result<Option<usize>, CheckpointError> {
    let mut bytes = [0; MUTEX];
    // What reaches out of what is mapped is no lock.
    if memory.read(address - OWNER, &mut bytes).is_err() {
        return Ok(None);
    }
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let is_lock = matches!(word(0), 1 | 2)
        && word(4) < MANY
        && (1..MANY).contains(&word(12))
        && word(16) & !KINDS == 0
        && bytes[24..].iter().all(|byte| *byte == 0);
    Ok(tids.iter().position(|tid| is_lock && *tid as u32 == word(OWNER as usize)))
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
