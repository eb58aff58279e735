//! The command line of the guest's kernel.
//!
//! Each option was measured on its own: QEMU 7.2, TCG, one CPU, 256 MiB,
//! Debian's kernel 6.1, from QEMU's start to the agent's first answer over the
//! virtio-serial port; 4 to 5 boots each, in turn, p50 in ms. The baseline
//! (`quiet tsc_early_khz=`, `-cpu max`, `tb-size=32`) takes 1769; all options
//! that help, together, 1129. 60 of 60 such boots answered on a busy host, and
//! 60 of 60 with two CPUs. The kernel of `setup kernel --build` answers after
//! 707 with the baseline and after 608 with all options (its bzImage after 807).
//!
//! | option | change |
//! |---|---|
//! | vmlinux through PVH instead of bzImage | -280 |
//! | `cryptomgr.notests` | -247 |
//! | `noreplace-smp` | -114 |
//! | QEMU: `tb-size=64` instead of 32 (16: +46, 128: as 64) | -93 |
//! | QEMU: `-cpu max,-erms` instead of `max` (`Nehalem`: the same, but no AVX) | -123 |
//! | QEMU: `virtio-serial-device,max_ports=2` instead of 31 | -62 |
//! | `init_on_alloc=0` | -6 to -33 |
//! | `lsm=`, `mitigations=off`, `no_timer_check`, `lpj=`, `8250.nr_uarts=`, no serial console, `random.trust_cpu=on`, `rcupdate.rcu_expedited=1`, `nokaslr`, `pci=off`, blacklisted initcalls, QEMU: `pit=off`, `pic=off`, `x-option-roms=off` | none beyond noise (20) |
//! | QEMU: `rtc=off` | +2000: the kernel waits for the clock chip |
//! | QEMU: `acpi=off` | no answer: Debian's kernel finds no device |

/// Returns the kernel's command line. `emulated` means that QEMU's TCG runs
/// the guest; `tsc_khz` is the frequency of the host's TSC, if it is usable as
/// a clock. The agent's own settings are not here: they come over the guest link.
pub fn command_line(emulated: bool, tsc_khz: Option<u32>) -> String {
    let emulation = if emulated { EMULATED } else { &[] };
    let options = ALWAYS.iter().chain(emulation).map(|option| (*option).to_owned());
    options
        .chain(tsc_khz.filter(|_| emulated).map(|khz| format!("tsc_early_khz={khz}")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `quiet`: only important messages reach the console. `reboot=t panic=-1`: a
/// panic ends the machine at once, which the supervisor notices.
/// `cryptomgr.notests`: self-tests are for those who build kernels, not for
/// each boot.
const ALWAYS: &[&str] = &["console=ttyS0", "quiet", "reboot=t", "panic=-1", "cryptomgr.notests"];

const EMULATED: &[&str] = &[
    // The TSC is the host's. The machine has no better clock to check it
    // against, and on a busy host such a check fails.
    "tsc=reliable",
    // The timer check counts ticks in a busy loop, which also fails on a busy host.
    "no_timer_check",
    // Patching the kernel's locks for one CPU costs more than it saves.
    "noreplace-smp",
    // Clearing memory is slow when each store is translated, and the
    // workload's isolation is the machine, not the guest's kernel.
    "init_on_alloc=0",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_emulated_guests_get_the_counter_frequency() {
        assert!(command_line(true, Some(2_596_150)).ends_with("tsc_early_khz=2596150"));
        assert_eq!(command_line(false, Some(1)), "console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests");
        assert!(!command_line(true, None).contains("tsc_early_khz"));
    }

    #[test]
    fn it_fits_the_shortest_limit_of_any_vmm() {
        assert!(command_line(true, Some(u32::MAX)).len() < 1024);
    }
}
