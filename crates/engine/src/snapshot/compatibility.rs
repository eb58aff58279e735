//! Whether this host can run copies of a snapshot.

use std::fs;

use mimeo_agent_protocol::PROTOCOL;
use mimeo_vmm::Accelerator;

use super::LoadError;
use crate::machine::Requirements;

/// What this host has.
#[derive(Debug, Clone)]
pub(crate) struct HostProfile {
    pub(crate) driver: String,
    pub(crate) shape: String,
    pub(crate) accelerator: Accelerator,
}

/// Refuses with the first thing that does not fit. The monitor's version is
/// known only once it runs, and is judged then, before the guest moves.
pub(crate) fn check_compatibility(needs: &Requirements, host: &HostProfile) -> Result<(), LoadError> {
    let same = |what, wanted: &str, here: &str| {
        if wanted == here {
            return Ok(());
        }
        Err(LoadError::Unfit { what, wanted: wanted.to_owned(), here: here.to_owned() })
    };
    same("the driver", &needs.driver, &host.driver)?;
    same("the accelerator", &needs.accelerator.to_string(), &host.accelerator.to_string())?;
    same("the processor", &needs.cpu, &cpu())?;
    same("an agent of protocol", &needs.protocol.to_string(), &PROTOCOL.to_string())?;
    let (wanted, here) = difference(&needs.shape, &host.shape);
    same("devices and settings", &wanted, &here)
}

/// The words of each that the other has not: two shapes are long, and differ little.
fn difference(wanted: &str, here: &str) -> (String, String) {
    let only = |of: &str, other: &str| {
        let known: Vec<_> = other.split(' ').collect();
        of.split(' ').filter(|word| !known.contains(word)).collect::<Vec<_>>().join(" ")
    };
    match (only(wanted, here), only(here, wanted)) {
        // The same words in another order.
        (left, right) if left == right && wanted != here => (wanted.to_owned(), here.to_owned()),
        differing => differing,
    }
}

/// Refuses a monitor that is not the one that saved the state.
pub(crate) fn check_version(needs: &Requirements, here: &str) -> Result<(), LoadError> {
    if needs.version == here {
        return Ok(());
    }
    Err(LoadError::Unfit {
        what: "the monitor's version",
        wanted: needs.version.clone(),
        here: here.to_owned(),
    })
}

/// The host's processor, by the kernel's name for it.
pub(crate) fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> (Requirements, HostProfile) {
        let here = HostProfile { driver: "qemu".into(), shape: "s".into(), accelerator: Accelerator::Tcg };
        let needs = Requirements {
            driver: "qemu".into(),
            version: "7.2.22".into(),
            shape: "s".into(),
            accelerator: Accelerator::Tcg,
            cpu: cpu(),
            kernel: "k".into(),
            kernel_sha256: String::new(),
            agent_blake3: String::new(),
            protocol: PROTOCOL,
            memory_mib: 512,
        };
        (needs, here)
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (fits, here) = needs();
        assert!(check_compatibility(&fits, &here).is_ok());
        let mut cases = vec![fits; 5];
        cases[0].driver = "firecracker".into();
        cases[1].accelerator = Accelerator::Kvm;
        cases[2].cpu = "another".into();
        cases[3].protocol += 1;
        cases[4].shape = "t".into();
        let told: Vec<_> = cases
            .iter()
            .map(|needs| check_compatibility(needs, &here).expect_err("unfit").to_string())
            .collect();
        for (told, word) in told.iter().zip(["driver", "accelerator", "processor", "agent", "devices"]) {
            assert!(told.contains(word), "{told}");
        }
    }
}
