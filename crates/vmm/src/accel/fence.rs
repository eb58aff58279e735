//! The unsafe call of this folder, and nothing else.
#![expect(unsafe_code, reason = "reading the time stamp counter has no safe form")]

/// The time stamp counter, now.
#[cfg(target_arch = "x86_64")]
pub(super) fn time_stamp() -> u64 {
    // SAFETY: every 64-bit x86 CPU has the instruction; a kernel that forbids it to user
    // programs (PR_TSC_SIGSEGV) does so only on the program's own request.
    unsafe { std::arch::x86_64::_rdtsc() }
}
