//! Probes whether `/dev/kvm` can create a VM and a vCPU: without that no guest need be tried.

use kvm_ioctls::Kvm;

use super::choose::Unusable;

/// Creates a VM with one vCPU, and drops it. Takes about a millisecond.
pub(super) fn probe() -> Result<(), Unusable> {
    let kvm = Kvm::new().map_err(|error| Unusable::from_open(error.errno()))?;
    let vm = kvm.create_vm().map_err(refused("create a VM"))?;
    vm.create_vcpu(0).map_err(refused("create a vCPU"))?;
    Ok(())
}

fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Unusable {
    move |error| Unusable::Refused { step: step.to_owned(), error: error.to_string() }
}
