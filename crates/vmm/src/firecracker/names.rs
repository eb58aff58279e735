//! Names of the files in the directory where Firecracker runs. They are relative and the same in every
//! machine: a saved state contains them, and so can be loaded for any machine.

/// The API socket.
pub(super) const API: &str = "vmm.sock";
/// The Unix socket for connections from the host to the guest.
pub(super) const LINK: &str = "link.sock";
/// The pipe that Firecracker logs to; its output is written to [`LOG`].
pub(super) const LOG_PIPE: &str = "vmm.log.pipe";
/// The log file, in the machine's own directory.
pub(super) const LOG: &str = "vmm.log";
/// The kernel to boot.
pub(super) const KERNEL: &str = "vmm.kernel";
/// The initramfs.
pub(super) const INITRAMFS: &str = "vmm.initramfs";
/// A saved state.
pub(super) const STATE: &str = "vmm.state";
/// The memory of a saved machine.
pub(super) const MEMORY: &str = "vmm.memory";
/// A page server's socket.
pub(super) const PAGER: &str = "vmm.pager";
/// The state that is being saved, in a jail.
pub(super) const NEW_STATE: &str = "vmm.new-state";
/// The memory that is being saved, in a jail.
pub(super) const NEW_MEMORY: &str = "vmm.new-memory";
/// The NIC's name in the API.
pub(super) const NIC: &str = "eth0";

/// A disk's name in the API, by position.
pub(super) fn drive(position: usize) -> String {
    format!("drive{position}")
}

/// The file name of the same disk.
pub(super) fn drive_file(position: usize) -> String {
    format!("vmm.{}", drive(position))
}

/// Whether a file of this name exists only while Firecracker runs.
pub(super) fn is_temporary(name: &str) -> bool {
    let files = [API, LINK, LOG_PIPE, KERNEL, INITRAMFS, STATE, MEMORY, PAGER];
    files.contains(&name) || name.starts_with("vmm.drive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_saved_states_do_not_change() {
        // If a name changes, older saved states cannot be loaded: say so in the changelog, and have them
        // created again.
        assert_eq!((LINK, NIC), ("link.sock", "eth0"));
        assert!(
            is_temporary(&drive_file(0)) && is_temporary(API) && !is_temporary(LOG) && !is_temporary("disk")
        );
        assert_eq!((drive(0).as_str(), drive_file(1).as_str()), ("drive0", "vmm.drive1"));
    }
}
