//! The unsafe calls of this crate.
#![expect(
    unsafe_code,
    reason = "mapping a file, listing pages and copying another process's memory have no safe API"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::region::Piece;

/// A shared mapping of a file that only the kernel reads and writes on our behalf: this process never touches
/// its bytes, so neither ENOSPC nor a truncated file can raise a signal here.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes, which must not be 0.
    pub(crate) fn shared(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let address =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, rights, MapFlags::SHARED, file, 0) }?;
        Ok(Self { address: address as usize, length })
    }

    /// Maps the first `length` bytes, which must not be 0, read-only.
    pub(crate) fn read_only(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let address =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Self { address: address as usize, length })
    }

    /// Maps zeros, which cost only page tables.
    pub(crate) fn zeros(length: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that Rust knows of.
        let address = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ, flags) }?;
        Ok(Self { address: address as usize, length })
    }

    /// Reads a byte range into the page cache and maps it, so that later reads do not fault.
    pub(crate) fn read_ahead(&self, range: Range<u64>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start) as usize;
        let start = self.checked_address(range.start, length)?;
        // SAFETY: the range is within our own mapping, and populating it changes none of its bytes.
        unsafe { rustix::mm::madvise(start, length, Advice::LinuxPopulateRead) }?;
        Ok(())
    }

    /// Populates page tables for writing to a byte range, so that later writes do not fault.
    pub(crate) fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start) as usize;
        let start = self.checked_address(range.start, length)?;
        // SAFETY: the range is within our own mapping, and populating it changes none of its bytes.
        unsafe { rustix::mm::madvise(start, length, Advice::LinuxPopulateWrite) }?;
        Ok(())
    }

    /// The address of `length` bytes at an offset, if all of them are within the mapping.
    pub(crate) fn checked_address(&self, offset: u64, length: usize) -> io::Result<*mut c_void> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((self.address + offset) as *mut c_void)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // If it fails, only addresses stay reserved.
        // SAFETY: this process alone owns the mapping, and no reference into it was ever created.
        unsafe { rustix::mm::munmap(self.address as *mut c_void, self.length) }.ok();
    }
}

/// Copies pieces of another process's memory to their offsets in a mapping, and returns the number of bytes
/// copied. A process that has exited gives `ESRCH`.
pub(crate) fn copy_from_process(pid: u32, pieces: &[Piece], into: &Mapping) -> io::Result<usize> {
    let vector = |base, length| libc::iovec { iov_base: base, iov_len: length };
    let length = |piece: &Piece| piece.length as usize;
    let local = pieces
        .iter()
        .map(|piece| Ok(vector(into.checked_address(piece.offset, length(piece))?, length(piece))));
    let local: Vec<_> = local.collect::<io::Result<_>>()?;
    let remote: Vec<_> =
        pieces.iter().map(|piece| vector(piece.address as *mut c_void, length(piece))).collect();
    // SAFETY: each local vector was just checked to be within `into`, which is borrowed, stays mapped
    // meanwhile, and has no references to its bytes. The remote vectors are addresses in the other process,
    // which the kernel checks.
    unsafe { read_memory(pid, &local, &remote) }
}

/// Copies another process's memory at an address into a buffer, like [`copy_from_process`].
pub(crate) fn read_from_process(pid: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: into.len() };
    // SAFETY: the local vector is exactly `into`, which is borrowed for writing. The remote one is an address
    // in the other process, which the kernel checks.
    unsafe { read_memory(pid, &[local], &[remote]) }
}

/// # Safety
/// The local vectors must describe writable memory.
unsafe fn read_memory(pid: u32, local: &[libc::iovec], remote: &[libc::iovec]) -> io::Result<usize> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let (locals, remotes) = (local.len() as libc::c_ulong, remote.len() as libc::c_ulong);
    // SAFETY: both pointers and lengths are those of slices; the caller guarantees the rest.
    let count = unsafe { libc::process_vm_readv(pid, local.as_ptr(), locals, remote.as_ptr(), remotes, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// The argument of `PAGEMAP_SCAN`, `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vector: u64,
    vector_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of: u64,
    return_mask: u64,
}

/// A run of addresses; `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRegion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    categories: u64,
}

const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;

/// Lists present and swapped-out pages in `found`; returns the number of runs and the address at which the
/// list ends. With `exclude_file`, file pages are left out. A kernel before 6.7 gives `ENOTTY`.
pub(crate) fn scan(
    pagemap: &File,
    addresses: Range<u64>,
    exclude_file: bool,
    found: &mut [PageRegion],
) -> io::Result<(usize, u64)> {
    let file_mask = if exclude_file { IS_FILE } else { 0 };
    let argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        start: addresses.start,
        end: addresses.end,
        vector: found.as_mut_ptr().expose_provenance() as u64,
        vector_length: found.len() as u64,
        category_inverted: file_mask,
        category_mask: file_mask,
        category_any_of: IS_PRESENT | IS_SWAPPED,
        ..ScanArgument::default()
    };
    // SAFETY: `found` is borrowed for writing, its length is passed with it, and any bytes are a valid
    // `PageRegion`.
    Ok(unsafe { rustix::ioctl::ioctl(pagemap, Scan(argument)) }?)
}

struct Scan(ScanArgument);

// SAFETY: the opcode is that of PAGEMAP_SCAN, whose argument has the layout of `ScanArgument`; the kernel
// writes only to that and to the vector that it names.
unsafe impl Ioctl for Scan {
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<ScanArgument>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, argument: *mut c_void) -> rustix::io::Result<Self::Output> {
        // SAFETY: this is the pointer that `as_ptr` returned.
        let argument = unsafe { &*argument.cast::<ScanArgument>() };
        Ok((usize::try_from(count).unwrap_or(0), argument.walk_end))
    }
}
