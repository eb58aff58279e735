//! The unsafe calls of this crate, and nothing else.
#![expect(unsafe_code, reason = "memory that others may map, and two devices' calls, have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags, mmap, mmap_anonymous, munmap, userfaultfd};

/// Memory of this process, mapped for a guest.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut std::ffi::c_void,
    bytes: usize,
}

// SAFETY: the mapping is this value's alone until it is dropped, and is only
// reached through atomic words.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroes.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, rights, flags) }?;
        Ok(Self { start, bytes })
    }

    /// A file's bytes; what is written stays here.
    pub(crate) fn private(file: &File, bytes: usize) -> io::Result<Self> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, rights, flags, file, 0) }?;
        Ok(Self { start, bytes })
    }

    pub(crate) fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is aligned to pages, as long as is said, and lives
        // as long as what is given; all access to it is by atomic words.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes / size_of::<AtomicU64>()) }
    }
}

/// A page's bytes.
pub(crate) type Page = [u8; 4096];

impl Mapping {
    /// A copy of a page. Nobody may write to it meanwhile.
    pub(crate) fn page(&self, index: usize) -> Option<Page> {
        let mut page = [0; size_of::<Page>()];
        if index >= self.bytes / page.len() {
            return None;
        }
        // SAFETY: the page is within the mapping, and what it is copied to is
        // as long. Who writes to it, the guest, stands still.
        unsafe {
            let from = self.start.cast::<u8>().add(index * page.len());
            std::ptr::copy_nonoverlapping(from, page.as_mut_ptr(), page.len());
        }
        Some(page)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing is left that borrows it.
        unsafe { munmap(self.start, self.bytes) }.ok();
    }
}

/// A descriptor by which another process gives a mapping its pages.
///
/// With rights that a prisoner may lack, also for pages that the kernel
/// touches; else for those alone that programs touch, which is all that a fake
/// does.
pub(crate) fn missing_pages(mapping: &Mapping) -> io::Result<OwnedFd> {
    const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: it has no hold of anything until memory is registered with it.
    let made = unsafe { userfaultfd(flags) };
    // SAFETY: as before.
    let fd = made.or_else(|_| unsafe { userfaultfd(flags | USER_MODE_ONLY) })?;
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
    // SAFETY: each call reads and writes three or four words, and that is how
    // many there are. The range is a mapping of ours, whose pages another
    // process gives from now on, while whoever reads them waits.
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
    // SAFETY: the call reads and writes 40 bytes, and that is how many there are.
    match unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a child end when the thread that starts it does.
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call, which allocates nothing, as is required between fork and exec.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
}
