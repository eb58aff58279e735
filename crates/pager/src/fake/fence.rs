//! The unsafe calls of the fake VMM.
#![expect(unsafe_code, reason = "mapping memory and registering it with a userfaultfd have no safe API")]

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, UserfaultfdFlags, userfaultfd};

/// The ioctl type of linux/userfaultfd.h.
const GROUP: u8 = 0xaa;
const API: Opcode = opcode::read_write::<ApiCall>(GROUP, 0x3f);
const REGISTER: Opcode = opcode::read_write::<RegisterCall>(GROUP, 0);
/// `UFFD_API`.
const VERSION: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MISSING: u64 = 1;
/// `UFFD_USER_MODE_ONLY`: needs no privileges.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

#[repr(C)]
struct ApiCall {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterCall {
    address: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

/// A userfaultfd with these features: from the device, as Firecracker does, or by the system call.
pub(super) fn descriptor(features: u64) -> io::Result<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    let device = OpenOptions::new().read(true).write(true).open("/dev/userfaultfd");
    // SAFETY: its holder can only change memory that is registered with it, whose bytes are atomics here.
    let descriptor = device.and_then(|device| Ok(unsafe { ioctl(device, New(flags)) }?));
    let plain = || {
        // SAFETY: as above.
        unsafe { userfaultfd(flags).or_else(|_| userfaultfd(flags | USER_MODE_ONLY)) }
    };
    let descriptor = descriptor.or_else(|_| plain())?;
    let mut call = ApiCall { version: VERSION, features, ioctls: 0 };
    // SAFETY: the number is that of UFFDIO_API, whose argument has the layout of `ApiCall`.
    unsafe { ioctl(&descriptor, Updater::<API, _>::new(&mut call)) }?;
    Ok(descriptor)
}

struct New(UserfaultfdFlags);

// SAFETY: the number is that of USERFAULTFD_IOC_NEW, which takes flags instead of a pointer and returns a
// descriptor that nothing else owns.
unsafe impl Ioctl for New {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(GROUP, 0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::without_provenance_mut(self.0.bits() as usize)
    }

    unsafe fn output_from_ptr(descriptor: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::BADF)?;
        // SAFETY: this is the descriptor that the call returned.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// Memory that is only accessed as atomic words.
#[derive(Debug)]
pub(super) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// Maps empty memory.
    pub(super) fn new(length: u64, is_huge: bool) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let pages = if is_huge { MapFlags::HUGETLB | MapFlags::HUGE_2MB } else { MapFlags::NORESERVE };
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | pages);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let address = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, rights, flags) }?;
        Ok(Self { address: address.expose_provenance(), length })
    }

    /// Maps a file privately, as Firecracker does without a page server.
    pub(super) fn private(file: &std::fs::File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let address = unsafe { rustix::mm::mmap(ptr::null_mut(), length, rights, flags, file, 0) }?;
        Ok(Self { address: address.expose_provenance(), length })
    }

    /// Registers it with a userfaultfd for missing pages.
    pub(super) fn register(&self, descriptor: &OwnedFd) -> io::Result<()> {
        let (address, length) = (self.address as u64, self.length as u64);
        let mut call = RegisterCall { address, length, mode: MISSING, ioctls: 0 };
        // SAFETY: the number is that of UFFDIO_REGISTER, whose argument has the layout of `RegisterCall`, and
        // this process owns the memory.
        Ok(unsafe { ioctl(descriptor, Updater::<REGISTER, _>::new(&mut call)) }?)
    }

    pub(super) fn address(&self) -> u64 {
        self.address as u64
    }

    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    /// Its words. Reading one may wait for a fault.
    pub(super) fn words(&self) -> &[AtomicU64] {
        let start = ptr::with_exposed_provenance(self.address);
        // SAFETY: the mapping is page-aligned, outlives the borrow, and is accessed in no other way; a page
        // that is changed, removed or installed meanwhile is, to atomics, as if another thread had written
        // it.
        unsafe { slice::from_raw_parts(start, self.length / size_of::<AtomicU64>()) }
    }

    /// Removes pages.
    pub(super) fn remove(&self, bytes: Range<u64>) -> io::Result<()> {
        let within = bytes.start <= bytes.end && bytes.end <= self.length();
        let start =
            if within { self.address + bytes.start as usize } else { return Err(Errno::INVAL.into()) };
        let length = (bytes.end - bytes.start) as usize;
        // SAFETY: the range is within our own mapping, whose bytes are only accessed as atomics.
        unsafe {
            rustix::mm::madvise(ptr::with_exposed_provenance_mut(start), length, Advice::LinuxDontNeed)
        }?;
        Ok(())
    }

    /// Moves it to another address.
    pub(super) fn shift(&mut self) -> io::Result<()> {
        let target = Self::new(self.length(), false)?;
        let (from, to) = (self.address, target.address);
        std::mem::forget(target);
        let flags = MremapFlags::MAYMOVE;
        let [from, to] = [from, to].map(ptr::with_exposed_provenance_mut);
        // SAFETY: both ranges are our own mappings; one is borrowed mutably, and the other has no owner any
        // more.
        unsafe { rustix::mm::mremap_fixed(from, self.length, self.length, flags, to) }?;
        self.address = to.expose_provenance();
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // If it fails, only addresses stay reserved.
        // SAFETY: this process alone owns the mapping, and all accesses borrow it.
        unsafe { rustix::mm::munmap(ptr::with_exposed_provenance_mut(self.address), self.length) }.ok();
    }
}
