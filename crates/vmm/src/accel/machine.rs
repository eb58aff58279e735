//! The scratch VM: one vCPU that starts in 64-bit mode at the guest's code.

use std::sync::Arc;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd};

use super::fence::{Lent, Memory};
use super::guest::{
    CODE_SELECTOR, DATA_SELECTOR, GDT, GDT_LIMIT, IDT, IDT_LIMIT, PAGE_MAP, REPORT, STACK_TOP, image,
};

/// Protection, paging, write protection, FPU errors, alignment: as Linux has it.
const CR0: u64 = 0x8005_0033;
/// PAE, FXSAVE, SSE exceptions, XSAVE.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 18;
/// Long mode, enabled and active.
const EFER: u64 = 1 << 8 | 1 << 10;
/// Always set in the flags register.
const FLAGS: u64 = 1 << 1;

/// A vCPU ready to run. It stands before the memory it runs on, and is so
/// dropped first.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) vcpu: VcpuFd,
    _lent: Lent,
}

/// A step of the setting up that KVM refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) step: &'static str,
    pub(super) error: kvm_ioctls::Error,
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Refused>;
}

impl<T> Step<T> for Result<T, kvm_ioctls::Error> {
    fn step(self, step: &'static str) -> Result<T, Refused> {
        self.map_err(|error| Refused { step, error })
    }
}

impl Machine {
    /// The vCPU will start at `entry`.
    pub(super) fn new(kvm: &Kvm, memory: Arc<Memory>, entry: u64) -> Result<Self, Refused> {
        let lent = Lent::new(kvm.create_vm().step("create a VM")?, memory).step("give the VM memory")?;
        image().into_iter().for_each(|(address, word)| lent.memory().write(address, word));
        let vcpu = lent.vm().create_vcpu(0).step("create a vCPU")?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).step("list CPU features")?;
        vcpu.set_cpuid2(&cpuid).step("set CPU features")?;
        enter_long_mode(&vcpu, entry)?;
        Ok(Self { vcpu, _lent: lent })
    }
}

fn enter_long_mode(vcpu: &VcpuFd, entry: u64) -> Result<(), Refused> {
    let initial = vcpu.get_sregs().step("read the system registers")?;
    vcpu.set_sregs(&system_registers(initial)).step("enter 64-bit mode")?;
    let registers = kvm_regs { rip: entry, rsp: STACK_TOP, rsi: REPORT, rflags: FLAGS, ..Default::default() };
    vcpu.set_regs(&registers).step("set the registers")
}

fn system_registers(initial: kvm_sregs) -> kvm_sregs {
    let data = segment(DATA_SELECTOR, 3, false);
    kvm_sregs {
        cr0: CR0,
        cr3: PAGE_MAP,
        cr4: CR4,
        efer: EFER,
        cs: segment(CODE_SELECTOR, 11, true),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        gdt: kvm_dtable { base: GDT, limit: GDT_LIMIT, ..Default::default() },
        idt: kvm_dtable { base: IDT, limit: IDT_LIMIT, ..Default::default() },
        ..initial
    }
}

/// The same as the GDT says, since KVM takes the hidden parts from here.
fn segment(selector: u16, type_: u8, is_code: bool) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: u8::from(!is_code),
        s: 1,
        l: u8::from(is_code),
        g: 1,
        ..Default::default()
    }
}
