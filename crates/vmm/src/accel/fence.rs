//! The unsafe call of this folder, and nothing else.
#![expect(unsafe_code, reason = "reading the time stamp counter has no safe form")]

/// The current time stamp counter.
#[cfg(target_arch = "x86_64")]
pub(super) fn time_stamp() -> u64 {
    // SAFETY: every 64-bit x86 CPU has the instruction. The kernel forbids it to a program (PR_TSC_SIGSEGV)
    // only at the program's own request.
    unsafe { std::arch::x86_64::_rdtsc() }
}
