//! How fast guests will run, and what time they will have.

use mimeo_vmm::accel::{Verdict, summary, tsc_khz};

use super::{Check, Subject};

const NAME: &str = "acceleration";

pub(super) fn acceleration(subject: Subject<'_>) -> Check {
    match summary(subject.run) {
        Verdict::Proved => Check::ok(NAME, "KVM: a guest has booted on it"),
        Verdict::Untried => Check::ok(NAME, "KVM: /dev/kvm makes machines; the first guest proves it"),
        Verdict::Unusable(why) => {
            Check::limited(NAME, format!("emulation: {why}"), why.remedy().map(str::to_owned))
        }
    }
}

pub(super) fn time_stamp_counter() -> Check {
    const NAME: &str = "time-stamp-counter";
    match tsc_khz() {
        Some(khz) => Check::ok(NAME, format!("{khz} kHz")),
        None => {
            Check::limited(NAME, "no constant counter: emulated guests measure their clock at boot", None)
        }
    }
}
