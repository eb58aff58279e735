//! POSIX ACLs: archives contain the format of the system call, ext4 stores a shorter one.

use super::LayerProblem;

const SYSCALL_VERSION: u32 = 2;
const EXT4_VERSION: u32 = 1;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const KNOWN_TAGS: [u16; 6] = [0x01, USER, 0x04, GROUP, 0x10, 0x20];

/// Converts an ACL from the system call's format to ext4's.
pub(super) fn to_ext4(value: &[u8]) -> Result<Vec<u8>, LayerProblem> {
    let bad = || LayerProblem::BadPax { detail: "access control list" };
    let (version, entries) = value.split_first_chunk::<4>().ok_or_else(bad)?;
    if u32::from_le_bytes(*version) != SYSCALL_VERSION || entries.len() % 8 != 0 {
        return Err(bad());
    }
    let mut out = EXT4_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        push_entry(&mut out, entry).ok_or_else(bad)?;
    }
    Ok(out)
}

/// Appends an entry. Only entries of named users and groups keep their id.
fn push_entry(out: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let tag = u16::from_le_bytes([entry[0], entry[1]]);
    let length = if tag == USER || tag == GROUP { 8 } else { 4 };
    out.extend_from_slice(&entry[..length]);
    KNOWN_TAGS.contains(&tag).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_entries_keep_their_id() {
        let call = [&2u32.to_le_bytes()[..], &[1, 0, 7, 0, 255, 255, 255, 255], &[2, 0, 5, 0, 232, 3, 0, 0]]
            .concat();
        let disk = [&1u32.to_le_bytes()[..], &[1, 0, 7, 0], &[2, 0, 5, 0, 232, 3, 0, 0]].concat();
        assert_eq!(to_ext4(&call).unwrap(), disk);
    }

    #[test]
    fn other_forms_are_refused() {
        for value in [&b""[..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(to_ext4(value).is_err(), "{value:?}");
        }
    }
}
