//! The host: CPU, memory, user namespaces, networking.

use std::env::consts::ARCH;
use std::error::Error;
use std::fs;
use std::path::Path;

use mimeo_net::bridged::{self, BridgedError};

use super::Check;

/// Enough for a guest of the default size, its VMM, and the host's own processes.
const MIN_MEMORY_MIB: u64 = 1024;

pub(super) fn architecture() -> Check {
    if ARCH == "x86_64" {
        return Check::ok("cpu", ARCH);
    }
    Check::missing("cpu", format!("guests are x86-64, this host is {ARCH}"), "use an x86-64 host")
}

pub(super) fn checks() -> Vec<Check> {
    vec![memory(), user_namespaces(), tun(), bridged_network()]
}

fn memory() -> Check {
    const NAME: &str = "memory";
    let Some(available) = available_mib(&read("/proc/meminfo")) else {
        return Check::limited(NAME, "cannot read the available memory", None);
    };
    let detail = format!("{available} MiB available");
    if available >= MIN_MEMORY_MIB {
        return Check::ok(NAME, detail);
    }
    Check::limited(
        NAME,
        detail,
        Some(format!("free {MIN_MEMORY_MIB} MiB, or give guests less with --memory")),
    )
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

/// Rootless networking and rootless unpacking use user namespaces.
fn user_namespaces() -> Check {
    const NAME: &str = "user-namespaces";
    let limit = read("/proc/sys/user/max_user_namespaces");
    let is_allowed = |path| read(path).trim() != "0";
    if limit.trim().parse::<u64>().unwrap_or(0) == 0 {
        return Check::limited(
            NAME,
            "this kernel allows no user namespaces",
            sysctl("user.max_user_namespaces=10000"),
        );
    }
    // Debian's own sysctl. Elsewhere the file does not exist, which counts as allowed.
    if !is_allowed("/proc/sys/kernel/unprivileged_userns_clone") {
        return Check::limited(
            NAME,
            "only root may create user namespaces",
            sysctl("kernel.unprivileged_userns_clone=1"),
        );
    }
    Check::ok(NAME, "allowed")
}

fn sysctl(setting: &str) -> Option<String> {
    Some(format!("sysctl -w {setting}"))
}

fn tun() -> Check {
    const NAME: &str = "tun";
    if Path::new("/dev/net/tun").exists() {
        return Check::ok(NAME, "/dev/net/tun exists");
    }
    let hint = "modprobe tun".to_owned();
    Check::limited(NAME, "no /dev/net/tun: no bridged networking, rootless networking works", Some(hint))
}

fn bridged_network() -> Check {
    const NAME: &str = "bridged-network";
    match bridged::check() {
        Ok(()) => Check::ok(NAME, "available: root, with nft"),
        Err(BridgedError::Privilege) => {
            Check::limited(NAME, "only for root: this user's machines get rootless networking", None)
        }
        Err(BridgedError::NoNft) => {
            let hint = "apt-get install nftables".to_owned();
            Check::limited(NAME, "nft is not installed: rootless networking works", Some(hint))
        }
        Err(error) => Check::limited(NAME, format!("unavailable: {}", error_chain(&error)), None),
    }
}

/// Formats the error and its sources on one line.
fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        assert_eq!(available_mib("MemTotal: 1 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        assert_eq!(available_mib(""), None);
    }
}
