//! Swaps the guest's root and the host's user as owners of files.
//!
//! A host that serves as an ordinary user owns the files that it creates. The guest
//! sees root as their owner, and the host sees the guest's root as its user. All
//! other ids stay. The kernel could do this by mounting in a user namespace, but then
//! allows only processes of that namespace (`fuse_allow_current_process`),
//! and the container is in the guest's initial one. So the ids are swapped
//! in the messages themselves, at the offsets that linux/fuse.h defines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The host's user and group ids, which are swapped with the guest's root. Zero leaves all ids as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owners {
    uid: u32,
    gid: u32,
}

impl Owners {
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    /// Swaps the pair of ids at offset `at`, if the message is that long.
    fn swap_ids(self, message: &mut [u8], at: usize) {
        for (at, own) in [(at, self.uid), (at + 4, self.gid)] {
            let Some(field) = message.get_mut(at..at + 4) else { return };
            let id = u32::from_ne_bytes([field[0], field[1], field[2], field[3]]);
            field.copy_from_slice(&swap(id, own).to_ne_bytes());
        }
    }
}

fn swap(id: u32, own: u32) -> u32 {
    match id {
        0 => own,
        id if id == own => 0,
        id => id,
    }
}

const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
const SETATTR: u32 = 4;
const READDIRPLUS: u32 = 44;
/// `fuse_in_header.uid`
const CALLER: usize = 24;
/// `fuse_setattr_in.uid`
const NEW_OWNER: usize = IN_HEADER + 76;
/// `fuse_attr.uid`
const OWNER: usize = 68;
/// `fuse_entry_out.attr`, `fuse_attr_out.attr`
const ENTRY_ATTR: usize = 40;
const ATTR_ATTR: usize = 16;
/// `fuse_statx_out.stat.uid`
const STATX_OWNER: usize = 52;
/// Size of `fuse_entry_out`, and of the `fuse_dirent` after it, without its name.
const ENTRY: usize = 128;
const DIRENT: usize = 24;

/// Where the reply to a request holds owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnerFields {
    At(usize),
    Entries,
}

fn owner_fields(opcode: u32) -> Option<OwnerFields> {
    match opcode {
        // lookup, symlink, mknod, mkdir, link, create, tmpfile
        1 | 6 | 8 | 9 | 13 | 35 | 51 => Some(OwnerFields::At(OUT_HEADER + ENTRY_ATTR + OWNER)),
        // getattr, setattr
        3 | SETATTR => Some(OwnerFields::At(OUT_HEADER + ATTR_ATTR + OWNER)),
        READDIRPLUS => Some(OwnerFields::Entries),
        // statx
        52 => Some(OwnerFields::At(OUT_HEADER + STATX_OWNER)),
        _ => None,
    }
}

/// The requests whose replies will hold owners.
#[derive(Debug)]
pub(super) struct Pending {
    owners: Owners,
    requests: Mutex<HashMap<u64, OwnerFields>>,
}

impl Pending {
    pub(super) fn new(owners: Owners) -> Self {
        Self { owners, requests: Mutex::default() }
    }

    /// Rewrites a request to the host.
    pub(super) fn rewrite_request(&self, message: &mut [u8]) {
        if self.is_identity() || message.len() < IN_HEADER {
            return;
        }
        let opcode = u32::from_ne_bytes([message[4], message[5], message[6], message[7]]);
        self.owners.swap_ids(message, CALLER);
        if opcode == SETATTR {
            self.owners.swap_ids(message, NEW_OWNER);
        }
        if let Some(owner_fields) = owner_fields(opcode) {
            self.requests().insert(unique(message), owner_fields);
        }
    }

    /// Rewrites a reply to the kernel.
    pub(super) fn rewrite_answer(&self, message: &mut [u8]) {
        if self.is_identity() || message.len() < OUT_HEADER {
            return;
        }
        match self.requests().remove(&unique(message)) {
            Some(OwnerFields::At(at)) => self.owners.swap_ids(message, at),
            Some(OwnerFields::Entries) => self.rewrite_entries(&mut message[OUT_HEADER..]),
            None => {}
        }
    }

    fn rewrite_entries(&self, mut entries: &mut [u8]) {
        while entries.len() >= ENTRY + DIRENT {
            self.owners.swap_ids(entries, ENTRY_ATTR + OWNER);
            let at = ENTRY + 16;
            let name = u32::from_ne_bytes([entries[at], entries[at + 1], entries[at + 2], entries[at + 3]]);
            let length = (ENTRY + DIRENT).saturating_add(name as usize).next_multiple_of(8);
            if length > entries.len() {
                return;
            }
            entries = &mut entries[length..];
        }
    }

    fn is_identity(&self) -> bool {
        self.owners.uid == 0 && self.owners.gid == 0
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, HashMap<u64, OwnerFields>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id that links a reply to its request. It has the same offset in both.
fn unique(message: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&message[8..16]);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(opcode: u32, unique: u64) -> Vec<u8> {
        let mut message = vec![0; 128];
        message[4..8].copy_from_slice(&opcode.to_ne_bytes());
        message[8..16].copy_from_slice(&unique.to_ne_bytes());
        message
    }

    fn read_u32(message: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
    }

    #[test]
    fn root_and_the_hosts_user_are_swapped() {
        let pending = Pending::new(Owners::new(1000, 100));
        let mut lookup = request(1, 7);
        pending.rewrite_request(&mut lookup);
        assert_eq!((read_u32(&lookup, CALLER), read_u32(&lookup, CALLER + 4)), (1000, 100));
        let mut answer = request(0, 7);
        answer.resize(OUT_HEADER + ENTRY, 0);
        let owner = OUT_HEADER + ENTRY_ATTR + OWNER;
        answer[owner..owner + 4].copy_from_slice(&1000u32.to_ne_bytes());
        answer[owner + 4..owner + 8].copy_from_slice(&7u32.to_ne_bytes());
        pending.rewrite_answer(&mut answer);
        assert_eq!((read_u32(&answer, owner), read_u32(&answer, owner + 4)), (0, 7));
        assert!(pending.requests().is_empty());
    }

    #[test]
    fn every_entry_of_a_listing_is_rewritten() {
        let pending = Pending::new(Owners::new(1000, 100));
        pending.rewrite_request(&mut request(READDIRPLUS, 9));
        let mut answer = request(0, 9);
        answer.truncate(OUT_HEADER);
        for name in [3u32, 8] {
            let mut entry = vec![0; (ENTRY + DIRENT + name as usize).next_multiple_of(8)];
            entry[ENTRY + 16..ENTRY + 20].copy_from_slice(&name.to_ne_bytes());
            answer.extend_from_slice(&entry);
        }
        pending.rewrite_answer(&mut answer);
        let second = OUT_HEADER + (ENTRY + DIRENT + 3usize).next_multiple_of(8);
        for entry in [OUT_HEADER, second] {
            assert_eq!(read_u32(&answer, entry + ENTRY_ATTR + OWNER), 1000);
        }
    }

    proptest! {
        #[test]
        fn swapping_twice_changes_nothing(id: u32, own: u32) {
            prop_assert_eq!(swap(swap(id, own), own), id);
        }

        #[test]
        fn noise_never_panics(mut request: Vec<u8>, mut answer: Vec<u8>, opcode in 0u8..60) {
            let pending = Pending::new(Owners::new(1, 2));
            if let Some(byte) = request.get_mut(4) {
                *byte = opcode;
            }
            if answer.len() >= 16 && request.len() >= 16 {
                answer[8..16].copy_from_slice(&request[8..16]);
            }
            pending.rewrite_request(&mut request);
            pending.rewrite_answer(&mut answer);
        }
    }
}
