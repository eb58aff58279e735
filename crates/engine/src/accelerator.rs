//! What runs a machine's instructions: KVM where it has been proved to work.

use mimeo_vmm::Accelerator;
use mimeo_vmm::accel::{Accel, AccelError, Acceleration, decide};

use crate::Home;

/// What was chosen, and why: `kvm`, or `tcg (/dev/kvm is …)`.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) accelerator: Accelerator,
    pub(crate) told: String,
}

/// Chooses as the person asked, or by what has been proved on this boot.
pub(crate) fn choose(home: &Home, accel: Accel) -> Result<Chosen, AccelError> {
    Ok(match decide(accel, home.run())? {
        Acceleration::Kvm { .. } => Chosen { accelerator: Accelerator::Kvm, told: "kvm".to_owned() },
        Acceleration::Tcg { why } => Chosen { accelerator: Accelerator::Tcg, told: format!("tcg ({why})") },
    })
}
