//! TAP devices.
#![expect(unsafe_code, reason = "TAP devices are made by ioctl")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::BridgedError;

/// Where they come from.
const DEVICE: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(
    /// Gives the descriptor a device of this name, as it is or new.
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
    /// Lets one user open it who has no privilege.
    set_owner,
    nix::request_code_write!(b'T', 204, size_of::<libc::c_int>())
);

/// How a machine's monitor takes its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapUse {
    /// By a descriptor: the device goes with the last of them.
    Descriptor,
    /// By its name; this user may.
    Name {
        /// The user.
        owner: u32,
    },
}

/// Makes a device in the network namespace of this thread. A descriptor of it
/// is there when it is to be taken so.
pub(crate) fn create(name: &str, usage: TapUse) -> Result<Option<OwnedFd>, BridgedError> {
    let file = open().map_err(BridgedError::io("open", DEVICE))?;
    let step = |source: io::Error| match source.kind() {
        io::ErrorKind::ResourceBusy => BridgedError::Exists { name: name.to_owned() },
        _ => BridgedError::Link { step: format!("make the TAP device {name}"), source },
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
    // One that is there would else be taken for the one that is asked for.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request lives until the call returns, and the kernel reads no more of it than that structure.
    unsafe { set_device(file.as_raw_fd(), &raw const request) }?;
    Ok(())
}

fn persist_for_owner(file: &File, owner: u32) -> io::Result<()> {
    let owner = owner as libc::c_int;
    // SAFETY: these take a number, and touch no memory of ours.
    unsafe { set_owner(file.as_raw_fd(), owner) }?;
    // SAFETY: as above.
    unsafe { set_persistent(file.as_raw_fd(), 1) }?;
    Ok(())
}
