//! The unsafe calls of this crate.
#![expect(unsafe_code, reason = "shared memory, ioctls and pre_exec have no safe API")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags, mmap, mmap_anonymous, munmap, userfaultfd};

/// Guest memory, mapped in this process.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut std::ffi::c_void,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone until it is dropped, and is only accessed through atomic
// words.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps zeros.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, rights, flags) }?;
        Ok(Self { start, bytes })
    }

    /// Maps a file privately: writes stay in this process.
    pub(crate) fn private(file: &File, bytes: usize) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, rights, flags, file, 0) }?;
        Ok(Self { start, bytes })
    }

    pub(crate) fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, has this length, and outlives the borrow; all access to it is
        // by atomic words.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes / size_of::<AtomicU64>()) }
    }
}

/// The bytes of a page.
pub(crate) type Page = [u8; 4096];

impl Mapping {
    /// Copies a page, which must not be written to meanwhile.
    pub(crate) fn page(&self, index: usize) -> Option<Page> {
        let mut page = [0; size_of::<Page>()];
        if index >= self.bytes / page.len() {
            return None;
        }
        // SAFETY: the page is within the mapping, and the destination has its length. Its only writer, the
        // guest, is paused.
        unsafe {
            let from = self.start.cast::<u8>().add(index * page.len());
            std::ptr::copy_nonoverlapping(from, page.as_mut_ptr(), page.len());
        }
        Some(page)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // If it fails, only addresses stay reserved.
        // SAFETY: this value owns the mapping, and nothing borrows it any more.
        unsafe { munmap(self.start, self.bytes) }.ok();
    }
}

/// Creates a userfaultfd by which another process installs a mapping's pages.
///
/// With privileges that a jailed process may lack, it also handles faults in the kernel; otherwise only those
/// in user space, which is all that a fake needs.
pub(crate) fn create_userfaultfd(mapping: &Mapping) -> io::Result<OwnedFd> {
    const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: it affects nothing until memory is registered with it.
    let created = unsafe { userfaultfd(flags) };
    // SAFETY: as before.
    let fd = created.or_else(|_| unsafe { userfaultfd(flags | USER_MODE_ONLY) })?;
    register(&fd, mapping)?;
    Ok(fd)
}

fn register(fd: &OwnedFd, mapping: &Mapping) -> io::Result<()> {
    const API: libc::Ioctl = 0xc018_aa3f;
    const REGISTER: libc::Ioctl = 0xc020_aa00;
    const EVENT_REMOVE: u64 = 1 << 3;
    const MISSING: u64 = 1;
    let mut api = [0xaa_u64, EVENT_REMOVE, 0];
    let mut range = [mapping.address(), mapping.bytes as u64, MISSING, 0];
    // SAFETY: each call reads and writes three or four words, and the arrays have that length. The range is
    // our own mapping, whose pages another process installs from now on, while readers wait.
    unsafe {
        if libc::ioctl(fd.as_raw_fd(), API, api.as_mut_ptr()) != 0
            || libc::ioctl(fd.as_raw_fd(), REGISTER, range.as_mut_ptr()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Opens a TAP device by its name, on an open `/dev/net/tun`.
pub(crate) fn set_interface(tun: &impl AsFd, name: &[u8; 16]) -> io::Result<()> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    const TAP_NO_PI_VNET_HDR: u16 = 0x2 | 0x1000 | 0x4000;
    let mut request = [0_u8; 40];
    request[..16].copy_from_slice(name);
    request[16..18].copy_from_slice(&TAP_NO_PI_VNET_HDR.to_ne_bytes());
    // SAFETY: the call reads and writes 40 bytes, the length of the buffer.
    match unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a child process die with the thread that starts it.
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call, which allocates nothing, as is required between fork and exec.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
}
