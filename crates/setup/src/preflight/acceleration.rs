//! Whether KVM works, and whether the TSC is a usable clock.

use mimeo_vmm::accel::{Verdict, summary, tsc_khz};

use super::{Check, Directories};

const NAME: &str = "acceleration";

pub(super) fn acceleration(directories: Directories<'_>) -> Check {
    match summary(directories.run) {
        Verdict::Proved => Check::ok(NAME, "KVM: a guest has booted with it"),
        Verdict::Untried => {
            Check::ok(NAME, "KVM: /dev/kvm can create VMs; the first guest will prove that it works")
        }
        Verdict::Unusable(reason) => {
            Check::limited(NAME, format!("emulation: {reason}"), reason.remedy().map(str::to_owned))
        }
    }
}

pub(super) fn time_stamp_counter() -> Check {
    const NAME: &str = "time-stamp-counter";
    match tsc_khz() {
        Some(khz) => Check::ok(NAME, format!("{khz} kHz")),
        None => Check::limited(NAME, "no constant TSC: emulated guests measure their clock at boot", None),
    }
}
