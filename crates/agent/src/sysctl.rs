//! Kernel settings (sysctl) of the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mimeo_agent_protocol::message::{ContainerSetup, Failure, FailureKind};

use crate::failure::{Context, failure};

const DIRECTORY: &str = "/proc/sys";
/// Settings of an IPC namespace. The container's process writes them, since the container has its own.
const IPC_PREFIXES: [&str; 4] = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];

/// Settings by name.
pub(crate) type Settings = BTreeMap<String, String>;

/// Writes the settings of the whole guest; returns those of the container's IPC namespace.
pub(crate) fn apply(setup: &ContainerSetup) -> Result<Settings, Failure> {
    for (name, value) in setup.default_sysctls.iter().filter(|(name, _)| !setup.sysctls.contains_key(*name)) {
        // A default only: this kernel may not have the setting.
        std::fs::write(path(name)?, value).ok();
    }
    let mut ipc = Settings::new();
    for (name, value) in &setup.sysctls {
        let path = path(name)?;
        if !path.is_file() {
            return Err(failure(FailureKind::Invalid, format!("the guest's kernel has no setting {name}")));
        }
        if IPC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            ipc.insert(name.clone(), value.clone());
        } else {
            std::fs::write(&path, value).context(format!("set {name} to {value:?}"))?;
        }
    }
    Ok(ipc)
}

/// The file of a setting. Dots separate components; a slash stands for a dot in one, as in `net.ipv4.conf.eth0/1`.
pub(crate) fn path(name: &str) -> Result<PathBuf, Failure> {
    let parts: Vec<String> = name.split('.').map(|part| part.replace('/', ".")).collect();
    if parts.iter().any(|part| part.is_empty() || part.starts_with('.') || part.contains('\0')) {
        return Err(failure(FailureKind::Invalid, format!("{name:?} is not the name of a kernel setting")));
    }
    Ok(parts.iter().fold(PathBuf::from(DIRECTORY), |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_below_proc_sys() {
        let text = |name: &str| path(name).map(|path| path.display().to_string()).ok();
        assert_eq!(text("net.ipv4.ip_forward").as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            text("net.ipv4.conf.eth0/1.rp_filter").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")
        );
        for bad in ["", ".", "a..b", "///", "kernel.//", "/.x", "a.\0"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
