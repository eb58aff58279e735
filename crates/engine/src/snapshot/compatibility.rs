//! Whether this host can run clones of a snapshot.

use std::fs;

use mimeo_agent_protocol::PROTOCOL;
use mimeo_vmm::Accelerator;

use super::LoadError;
use crate::machine::Requirements;

/// The properties of this host that a snapshot depends on.
#[derive(Debug, Clone)]
pub(crate) struct HostProfile {
    pub(crate) driver: String,
    pub(crate) shape: String,
    pub(crate) accelerator: Accelerator,
}

/// Checks each requirement and returns the first that is not met. The VMM's version is known only once the
/// VMM runs; `check_version` compares it before the guest resumes.
pub(crate) fn check_compatibility(needs: &Requirements, host: &HostProfile) -> Result<(), LoadError> {
    let require = |requirement, needed: &str, actual: &str| {
        if needed == actual {
            return Ok(());
        }
        Err(LoadError::Incompatible { requirement, needed: needed.to_owned(), actual: actual.to_owned() })
    };
    require("the driver", &needs.driver, &host.driver)?;
    require("the accelerator", &needs.accelerator.to_string(), &host.accelerator.to_string())?;
    require("the processor", &needs.cpu, &cpu_model())?;
    require("an agent of protocol", &needs.protocol.to_string(), &PROTOCOL.to_string())?;
    let (needed, actual) = distinct_words(&needs.shape, &host.shape);
    require("devices and settings", &needed, &actual)
}

/// The words that occur in only one of the two: shapes are long and differ little.
fn distinct_words(needed: &str, actual: &str) -> (String, String) {
    let only = |words: &str, other: &str| {
        let other_words: Vec<_> = other.split(' ').collect();
        words.split(' ').filter(|word| !other_words.contains(word)).collect::<Vec<_>>().join(" ")
    };
    match (only(needed, actual), only(actual, needed)) {
        // The same words in a different order.
        (left, right) if left == right && needed != actual => (needed.to_owned(), actual.to_owned()),
        distinct => distinct,
    }
}

/// Refuses a VMM whose version differs from the one that saved the state.
pub(crate) fn check_version(needs: &Requirements, actual: &str) -> Result<(), LoadError> {
    if needs.version == actual {
        return Ok(());
    }
    Err(LoadError::Incompatible {
        requirement: "the VMM's version",
        needed: needs.version.clone(),
        actual: actual.to_owned(),
    })
}

/// The model name of the host's processor, as reported by the kernel.
pub(crate) fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirements_and_host() -> (Requirements, HostProfile) {
        let host = HostProfile { driver: "qemu".into(), shape: "s".into(), accelerator: Accelerator::Tcg };
        let needs = Requirements {
            driver: "qemu".into(),
            version: "7.2.22".into(),
            shape: "s".into(),
            accelerator: Accelerator::Tcg,
            cpu: cpu_model(),
            kernel: "k".into(),
            kernel_sha256: String::new(),
            agent_blake3: String::new(),
            protocol: PROTOCOL,
            memory_mib: 512,
        };
        (needs, host)
    }

    #[test]
    fn an_incompatibility_names_the_requirement() {
        let (fits, host) = requirements_and_host();
        assert!(check_compatibility(&fits, &host).is_ok());
        let mut cases = vec![fits; 5];
        cases[0].driver = "firecracker".into();
        cases[1].accelerator = Accelerator::Kvm;
        cases[2].cpu = "another".into();
        cases[3].protocol += 1;
        cases[4].shape = "t".into();
        let messages: Vec<_> = cases
            .iter()
            .map(|needs| check_compatibility(needs, &host).expect_err("incompatible").to_string())
            .collect();
        for (message, word) in messages.iter().zip(["driver", "accelerator", "processor", "agent", "devices"])
        {
            assert!(message.contains(word), "{message}");
        }
    }
}
