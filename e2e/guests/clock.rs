//! A library that is loaded before the C library (`LD_PRELOAD`), and shifts the host's clock by the seconds in the file
//! `TEST_CLOCK`. Monotonic clocks are not shifted, as when an administrator sets the clock.

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_long, c_void};

#[repr(C)]
pub struct timespec {
    seconds: i64,
    nanoseconds: i64,
}

const CLOCK_REALTIME: c_int = 0;
const SYS_CLOCK_GETTIME: c_long = 228;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(fd: c_int, buffer: *mut c_void, length: usize) -> isize;
    fn close(fd: c_int) -> c_int;
}

/// The kernel's clock, shifted.
///
/// # Safety
/// `time` must be valid, as for the C library's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut timespec) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { syscall(SYS_CLOCK_GETTIME, clock, time) } as c_int;
    if result == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the kernel has written it.
        unsafe { (*time).seconds += shift() };
    }
    result
}

/// The seconds in the file; 0 if it cannot be read.
fn shift() -> i64 {
    let mut seconds = [0; 8];
    // SAFETY: the strings end in zeros, and the buffer is as long as is said.
    unsafe {
        let path = getenv(c"TEST_CLOCK".as_ptr());
        let fd = if path.is_null() { -1 } else { open(path, 0o2_000_000) };
        if fd >= 0 {
            read(fd, seconds.as_mut_ptr().cast(), seconds.len());
            close(fd);
        }
    }
    i64::from_le_bytes(seconds)
}
