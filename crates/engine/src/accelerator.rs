//! What runs a machine's instructions: KVM unless it is known not to run our guests.
//!
//! The first guest of a kind that boots on KVM proves it. Where it does not come up, that is remembered for this boot of
//! the host, and the machine is started once more, without KVM. Who ordered KVM gets it, and its failure.

use std::time::Duration;

use mimeo_vmm::accel::{self, Accel, Unusable, Verdict};
use mimeo_vmm::{Accelerator, Driver};

use crate::{Home, agent};
use mimeo_setup::Kernel;

/// How long the first guest on an untried KVM may take to answer: one that
/// takes longer is better off emulated. An emulated KVM host needs up to ten
/// seconds.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What was chosen, and why.
#[derive(Debug, Clone)]
pub(crate) struct AcceleratorChoice {
    pub(crate) accelerator: Accelerator,
    verdict: Verdict,
    is_forced: bool,
    /// The kind of guest, by driver, program, kernel and agent.
    guest: String,
}

/// Chooses as the person asked, or by what guests have proved on this boot.
pub(crate) fn choose(home: &Home, accel: Accel, driver: &dyn Driver, kernel: &Kernel) -> AcceleratorChoice {
    let program = driver.program().unwrap_or_default();
    let (name, image, agent) = (driver.name(), &kernel.manifest.image.sha256, agent::digest());
    let text = format!("{name}\n{program}\n{image}\n{agent}");
    let guest = format!("{name}-{}", &blake3::hash(text.as_bytes()).to_hex()[..16]);
    let choice = accel::choose(accel, &guest, home.run());
    AcceleratorChoice {
        accelerator: choice.accelerator,
        verdict: choice.verdict,
        is_forced: accel == Accel::Kvm,
        guest,
    }
}

/// What runs a clone of a snapshot's guest, which needs what it was saved with. Emulation works on every host.
pub(crate) fn for_snapshot(home: &Home, needed: Accelerator) -> Accelerator {
    match (needed, accel::summary(home.run())) {
        (Accelerator::Kvm, Verdict::Proved | Verdict::Untried) => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    }
}

impl AcceleratorChoice {
    /// `kvm`, or `tcg (this host has no /dev/kvm)`.
    pub(crate) fn description(&self) -> String {
        match (&self.verdict, self.accelerator) {
            (Verdict::Unusable(why), accelerator) => format!("{accelerator} ({why})"),
            (_, accelerator) => accelerator.to_string(),
        }
    }

    /// Whether KVM is used as ordered, though it is not known to work.
    pub(crate) fn is_against_verdict(&self) -> bool {
        self.accelerator == Accelerator::Kvm && matches!(self.verdict, Verdict::Unusable(_))
    }

    /// Warns of an order that goes against what is known.
    pub(crate) fn warn(&self) {
        if let (Verdict::Unusable(why), Accelerator::Kvm) = (&self.verdict, self.accelerator) {
            tracing::warn!(component = "kvm", %why, "used as ordered, though it is not known to work");
        }
    }

    /// Whether a guest that does not come up is to be tried again without KVM.
    pub(crate) fn is_trial(&self) -> bool {
        self.accelerator == Accelerator::Kvm && self.verdict == Verdict::Untried && !self.is_forced
    }

    /// How long the guest may take to answer.
    pub(crate) fn boot_timeout(&self, start_timeout: Duration) -> Duration {
        if self.is_trial() { start_timeout.min(TRIAL_TIMEOUT) } else { start_timeout }
    }

    /// A guest answered: remembers that KVM works, if that is news.
    pub(crate) fn guest_answered(&self, home: &Home) {
        if self.accelerator == Accelerator::Kvm && self.verdict != Verdict::Proved {
            accel::record(home.run(), &self.guest, Ok(()));
        }
    }

    /// A guest did not come up: remembers that, and says it once, if it was
    /// the trial. Why, as the next start will say it.
    pub(crate) fn guest_failed(&self, home: &Home, how: String) -> Unusable {
        let why = Unusable::GuestFailed { how };
        if self.is_trial() {
            accel::record(home.run(), &self.guest, Err(why.clone()));
            tracing::warn!(component = "kvm", %why, "using emulation until the host is rebooted");
        }
        why
    }
}
