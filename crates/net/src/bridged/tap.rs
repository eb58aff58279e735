//! TAP devices.
#![expect(unsafe_code, reason = "TAP devices are created by ioctl")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::BridgedError;

/// The device that creates TAP devices.
const DEVICE: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(
    /// Attaches the descriptor to the device of this name; creates the device if it does not exist.
    set_device,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// Keeps the device when the descriptor is closed.
    set_persistent,
    nix::request_code_write!(b'T', 203, size_of::<libc::c_int>())
);
nix::ioctl_write_int_bad!(
    /// Allows an unprivileged user to open the device.
    set_owner,
    nix::request_code_write!(b'T', 204, size_of::<libc::c_int>())
);

/// How a machine's VMM opens its TAP device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapUse {
    /// By an inherited descriptor; the device is deleted with the last descriptor.
    Descriptor,
    /// By name, as an unprivileged user.
    Name {
        /// The user's id.
        owner: u32,
    },
}

/// Creates a TAP device in the network namespace of this thread. Returns a descriptor with
/// [`TapUse::Descriptor`].
pub(crate) fn create(name: &str, usage: TapUse) -> Result<Option<OwnedFd>, BridgedError> {
    let file = open().map_err(BridgedError::io("open", DEVICE))?;
    let step = |source: io::Error| match source.kind() {
        io::ErrorKind::ResourceBusy => BridgedError::Exists { name: name.to_owned() },
        _ => BridgedError::Link { step: format!("create the TAP device {name}"), source },
    };
    attach(&file, name).map_err(step)?;
    match usage {
        TapUse::Descriptor => Ok(Some(file.into())),
        TapUse::Name { owner } => {
            persist_for_owner(&file, owner).map_err(step)?;
            Ok(None)
        }
    }
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)
}

fn attach(file: &File, name: &str) -> io::Result<()> {
    // SAFETY: all-zero bytes are a value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // TUN_EXCL: without it an existing device would be reused silently.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request lives until the call returns, and the kernel reads no more than that structure.
    unsafe { set_device(file.as_raw_fd(), &raw const request) }?;
    Ok(())
}

fn persist_for_owner(file: &File, owner: u32) -> io::Result<()> {
    let owner = owner as libc::c_int;
    // SAFETY: the call takes a number and accesses no memory of this process.
    unsafe { set_owner(file.as_raw_fd(), owner) }?;
    // SAFETY: as above.
    unsafe { set_persistent(file.as_raw_fd(), 1) }?;
    Ok(())
}
