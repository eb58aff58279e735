//! How fast guests will run, and what time they will have.

use mimeo_vmm::accel::{Acceleration, decide, tsc_khz};

use super::{Check, Subject};

const NAME: &str = "acceleration";

pub(super) fn acceleration(subject: Subject<'_>) -> Check {
    match decide(subject.accel, subject.run) {
        Ok(Acceleration::Kvm { million_instructions_per_second: speed }) => {
            Check::ok(NAME, format!("KVM, {speed} million instructions a second"))
        }
        Ok(Acceleration::Tcg { why }) => {
            Check::limited(NAME, format!("emulation, as {why}"), why.mend().map(str::to_owned))
        }
        Err(error) => Check::missing(NAME, error.to_string(), "leave out `--accel kvm`: emulation works"),
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
