//! The unsafe calls of these tests.
#![expect(unsafe_code, reason = "unshare and TAP ioctls have no safe API")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// A network namespace with TAP devices of these names. None if this user may not create one.
pub(crate) fn network(taps: &[&str]) -> Option<Arc<OwnedFd>> {
    let taps: Vec<String> = taps.iter().map(|name| (*name).to_owned()).collect();
    let make = move || {
        // SAFETY: takes no pointer, and affects only this thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return None;
        }
        taps.iter().try_for_each(|name| make_tap(name)).expect("TAP devices are made");
        Some(Arc::new(OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("opened"))))
    };
    std::thread::spawn(make).join().expect("no panic")
}

fn make_tap(name: &str) -> io::Result<()> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
    const TAP_NO_PI_VNET_HDR: u16 = 0x2 | 0x1000 | 0x4000;
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&TAP_NO_PI_VNET_HDR.to_ne_bytes());
    // SAFETY: the first call reads and writes 40 bytes, the length of the buffer; the second takes a number.
    unsafe {
        if libc::ioctl(tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) != 0
            || libc::ioctl(tun.as_raw_fd(), TUNSETPERSIST, 1) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A field of a process's status file in /proc.
pub(crate) fn status(pid: u32, word: &str) -> String {
    let mut text = String::new();
    let file = File::open(format!("/proc/{pid}/status"));
    file.and_then(|mut file| file.read_to_string(&mut text)).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(':'));
    line.expect("the field exists").split_whitespace().collect::<Vec<_>>().join(" ")
}
