//! Chooses a machine's accelerator: KVM, unless it is known not to run mimeo's guests.
//!
//! The first guest of a kind that boots on KVM proves KVM. If it does not boot, that is recorded until the host
//! reboots, and the machine is started again without KVM. `--accel kvm` always uses KVM, and fails if KVM does.

use std::time::Duration;

use mimeo_vmm::accel::{self, Accel, Unusable, Verdict};
use mimeo_vmm::{Accelerator, Driver};

use crate::{Home, agent};
use mimeo_setup::Kernel;

/// How long the first guest on an untried KVM may take to answer. If it takes longer, emulation is the better choice.
/// An emulated KVM host needs up to ten seconds.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The chosen accelerator, and why.
#[derive(Debug, Clone)]
pub(crate) struct AcceleratorChoice {
    pub(crate) accelerator: Accelerator,
    verdict: Verdict,
    is_forced: bool,
    /// The kind of guest: the driver's name and a hash of driver, program, kernel and agent.
    guest: String,
}

/// Chooses the requested accelerator, or the one that guests have proved since the host booted.
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

/// The accelerator for clones of a snapshot that needs `needed`. Emulation works on every host.
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

    /// Whether KVM is used because it was requested, though it is not known to work.
    pub(crate) fn is_against_verdict(&self) -> bool {
        self.accelerator == Accelerator::Kvm && matches!(self.verdict, Verdict::Unusable(_))
    }

    /// Warns if KVM is used though it is not known to work.
    pub(crate) fn warn(&self) {
        if let (Verdict::Unusable(why), Accelerator::Kvm) = (&self.verdict, self.accelerator) {
            tracing::warn!(component = "kvm", %why, "using KVM as requested, though it is not known to work");
        }
    }

    /// Whether this is the first guest on an untried KVM: if it does not boot, it is started again without KVM.
    pub(crate) fn is_trial(&self) -> bool {
        self.accelerator == Accelerator::Kvm && self.verdict == Verdict::Untried && !self.is_forced
    }

    /// How long the guest may take to answer.
    pub(crate) fn boot_timeout(&self, start_timeout: Duration) -> Duration {
        if self.is_trial() { start_timeout.min(TRIAL_TIMEOUT) } else { start_timeout }
    }

    /// Records that KVM works, after a guest has answered, unless that is known.
    pub(crate) fn guest_answered(&self, home: &Home) {
        if self.accelerator == Accelerator::Kvm && self.verdict != Verdict::Proved {
            accel::record(home.run(), &self.guest, Ok(()));
        }
    }

    /// Returns the reason for which a guest did not boot. If this was the first guest on an untried KVM, records and
    /// logs that KVM is unusable.
    pub(crate) fn guest_failed(&self, home: &Home, how: String) -> Unusable {
        let why = Unusable::GuestFailed { how };
        if self.is_trial() {
            accel::record(home.run(), &self.guest, Err(why.clone()));
            tracing::warn!(component = "kvm", %why, "using emulation until the host is rebooted");
        }
        why
    }
}
