//! What a machine's Firecracker calls its files. They are in the directory
//! where it runs, go by these names alone and have the same ones in every
//! machine: a saved state holds the names, and so is any machine's to load.

/// Its API.
pub(super) const API: &str = "vmm.sock";
/// Where the host's connections to the guest come.
pub(super) const LINK: &str = "link.sock";
/// Where its log comes out, to be written to [`LOG`].
pub(super) const LOG_PIPE: &str = "vmm.log.pipe";
/// Its log, in the machine's own directory.
pub(super) const LOG: &str = "vmm.log";
/// The kernel to boot.
pub(super) const KERNEL: &str = "vmm.kernel";
/// The first filesystem.
pub(super) const INITRAMFS: &str = "vmm.initramfs";
/// A saved state.
pub(super) const STATE: &str = "vmm.state";
/// A saved memory.
pub(super) const MEMORY: &str = "vmm.memory";
/// A page server's socket.
pub(super) const PAGER: &str = "vmm.pager";
/// A state that is being saved, in a jail.
pub(super) const NEW_STATE: &str = "vmm.new-state";
/// A memory that is being saved, in a jail.
pub(super) const NEW_MEMORY: &str = "vmm.new-memory";
/// The network card.
pub(super) const NIC: &str = "eth0";

/// A disk, by its position: its name in the API.
pub(super) fn drive(position: usize) -> String {
    format!("drive{position}")
}

/// The same disk's file.
pub(super) fn drive_file(position: usize) -> String {
    format!("vmm.{}", drive(position))
}

/// Whether a name is of something that is there only as long as Firecracker is.
pub(super) fn is_temporary(name: &str) -> bool {
    let files = [API, LINK, LOG_PIPE, KERNEL, INITRAMFS, STATE, MEMORY, PAGER];
    files.contains(&name) || name.starts_with("vmm.drive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_saved_states_do_not_change() {
        // Another name here, and states that were saved before are not to be
        // loaded any more: say so in the list of changes, and have them made anew.
        assert_eq!((LINK, NIC), ("link.sock", "eth0"));
        assert!(
            is_temporary(&drive_file(0)) && is_temporary(API) && !is_temporary(LOG) && !is_temporary("disk")
        );
        assert_eq!((drive(0).as_str(), drive_file(1).as_str()), ("drive0", "vmm.drive1"));
    }
}
