//! The sysctls that bridged networking needs. A change to a setting of the host is logged first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::BridgedError;

const ALL: &str = "/proc/sys/net";

/// Whether IPv6 is enabled in this namespace.
pub(crate) fn has_ip6() -> bool {
    read_setting(&setting_path("ipv6/conf/all/disable_ipv6")).is_some_and(|value| value == "0")
}

/// Enables packet forwarding on the host.
pub(crate) fn enable_forwarding(ip6: bool) -> Result<(), BridgedError> {
    log_and_set("ipv4/ip_forward", "1")?;
    if !ip6 {
        return Ok(());
    }
    // A forwarding host ignores router advertisements and would lose its default
    // route, unless accept_ra is 2.
    for interface in interfaces_with_advertised_route() {
        log_and_set(&format!("ipv6/conf/{interface}/accept_ra"), "2")?;
    }
    log_and_set("ipv6/conf/all/forwarding", "1")
}

/// Makes a bridge route 127.0.0.0/8 and send no ICMP redirects.
pub(crate) fn configure_bridge(name: &str, ip6: bool) -> Result<(), BridgedError> {
    set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    set(&format!("ipv4/conf/{name}/send_redirects"), "0")?;
    if ip6 {
        set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        // Its addresses are unique, and duplicate address detection delays the start by a second.
        set(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    }
    Ok(())
}

/// Disables IPv6 on a link.
pub(crate) fn disable_ip6(name: &str) -> Result<(), BridgedError> {
    set(&format!("ipv6/conf/{name}/disable_ipv6"), "1")
}

/// Applies the settings of a machine's namespace. Must run before its links are created.
pub(crate) fn configure_namespace(ip6: bool) -> Result<(), BridgedError> {
    set("ipv4/ip_forward", "1")?;
    if ip6 {
        set("ipv6/conf/default/accept_dad", "0")?;
        set("ipv6/conf/default/accept_ra", "0")?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Interfaces whose default route comes from a router advertisement and would expire under `accept_ra=1`.
fn interfaces_with_advertised_route() -> BTreeSet<String> {
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let interfaces = routes.lines().filter_map(advertised_interface).map(str::to_owned);
    let listens = |interface: &String| {
        read_setting(&setting_path(&format!("ipv6/conf/{interface}/accept_ra")))
            .is_some_and(|value| value == "1")
    };
    interfaces.filter(listens).collect()
}

/// The interface of a default route that a router advertised: `RTF_DEFAULT` and `RTF_ADDRCONF` of linux/ipv6_route.h.
fn advertised_interface(route: &str) -> Option<&str> {
    const ADVERTISED: u32 = 0x0005_0000;
    let words: Vec<_> = route.split_whitespace().collect();
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    (flags & ADVERTISED == ADVERTISED).then_some(*words.get(9)?)
}

fn log_and_set(name: &str, value: &str) -> Result<(), BridgedError> {
    let before = read_setting(&setting_path(name)).unwrap_or_default();
    if before == value {
        return Ok(());
    }
    let setting = format!("net.{}", name.replace('/', "."));
    tracing::warn!(
        component = "network",
        "setting {setting} of this host to {value} (it is {before}), so that bridged machines reach the network"
    );
    set(name, value)
}

fn set(name: &str, value: &str) -> Result<(), BridgedError> {
    let path = setting_path(name);
    match fs::write(&path, value) {
        // In a container some settings are read-only but already have the value.
        Err(_) if read_setting(&path).is_some_and(|now| now == value) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(BridgedError::Privilege),
        done => done.map_err(BridgedError::io("set", path)),
    }
}

fn read_setting(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn setting_path(name: &str) -> PathBuf {
    Path::new(ALL).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_route_is_recognised_by_its_flags() {
        let route = |flags: &str| {
            format!("{0} 00 {0} 00 {0} 00000400 00000001 00000000 {flags} eth0", "0".repeat(32))
        };
        assert_eq!(advertised_interface(&route("00450003")), Some("eth0"));
        assert_eq!(advertised_interface(&route("00000003")), None);
        assert_eq!(advertised_interface("no route"), None);
    }
}
