//! The unsafe calls of this folder, and nothing else.
#![expect(
    unsafe_code,
    reason = "lending memory to a vCPU, and reading the time stamp counter, have no safe form"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

const PAGE_BYTES: usize = 4096;
const PAGE_WORDS: usize = PAGE_BYTES / 8;

#[repr(C, align(4096))]
#[derive(Debug)]
struct Page([AtomicU64; PAGE_WORDS]);

/// Memory that a guest may write to at any time: every access of ours is an
/// atomic one, so none races.
#[derive(Debug)]
pub(super) struct Memory(Box<[Page]>);

impl Memory {
    pub(super) fn zeroed(bytes: usize) -> Self {
        let page = || Page([const { AtomicU64::new(0) }; PAGE_WORDS]);
        Self(std::iter::repeat_with(page).take(bytes.div_ceil(PAGE_BYTES)).collect())
    }

    pub(super) fn read(&self, address: u64) -> u64 {
        self.word(address).load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, address: u64, word: u64) {
        self.word(address).store(word, Ordering::Relaxed);
    }

    fn word(&self, address: u64) -> &AtomicU64 {
        let address = address as usize;
        &self.0[address / PAGE_BYTES].0[address % PAGE_BYTES / 8]
    }
}

/// A VM together with the memory lent to it. The VM is the first field: it is
/// closed before its memory can go.
#[derive(Debug)]
pub(super) struct Lent {
    vm: VmFd,
    memory: Arc<Memory>,
}

impl Lent {
    /// Makes the memory the VM's physical memory from address 0 on.
    pub(super) fn new(vm: VmFd, memory: Arc<Memory>) -> Result<Self, kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: (memory.0.len() * PAGE_BYTES) as u64,
            userspace_addr: memory.0.as_ptr() as u64,
        };
        // SAFETY: the region is exactly the pages that `memory` owns, page-aligned and
        // initialised. They live as long as the VM: both are fields of what is returned, the
        // VM is dropped first, and whoever holds a vCPU (which keeps the VM alive in the
        // kernel) holds this value beside it. Rust reads and writes them through atomics only.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(Self { vm, memory })
    }

    pub(super) fn vm(&self) -> &VmFd {
        &self.vm
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// The time stamp counter, now.
#[cfg(target_arch = "x86_64")]
pub(super) fn time_stamp() -> u64 {
    // SAFETY: every 64-bit x86 CPU has the instruction; a kernel that forbids it to user
    // programs (PR_TSC_SIGSEGV) does so only on the program's own request.
    unsafe { std::arch::x86_64::_rdtsc() }
}
