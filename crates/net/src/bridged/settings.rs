//! The kernel's settings that bridged networking needs. Each is told before it is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::BridgedError;

const ALL: &str = "/proc/sys/net";

/// Whether this namespace speaks IPv6.
pub(crate) fn has_ip6() -> bool {
    read(&path("ipv6/conf/all/disable_ipv6")).is_some_and(|value| value == "0")
}

/// Has the host forward packets.
pub(crate) fn forward(ip6: bool) -> Result<(), BridgedError> {
    tell_and_set("ipv4/ip_forward", "1")?;
    if !ip6 {
        return Ok(());
    }
    // A host that forwards ignores router advertisements, and so would lose the
    // route that it lives by, unless it is told that it may have both.
    for card in cards_that_listen() {
        tell_and_set(&format!("ipv6/conf/{card}/accept_ra"), "2")?;
    }
    tell_and_set("ipv6/conf/all/forwarding", "1")
}

/// Has a bridge pass on what comes from and goes to 127.0.0.0/8, and tell nobody of shorter ways.
pub(crate) fn bridge(name: &str, ip6: bool) -> Result<(), BridgedError> {
    set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    set(&format!("ipv4/conf/{name}/send_redirects"), "0")?;
    if ip6 {
        set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        // Nobody else has its addresses, and a second's wait is long.
        set(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    }
    Ok(())
}

/// Leaves a link without IPv6 of its own.
pub(crate) fn no_ip6(name: &str) -> Result<(), BridgedError> {
    set(&format!("ipv6/conf/{name}/disable_ipv6"), "1")
}

/// Settings of a namespace that is a machine's, before it has links.
pub(crate) fn inside(ip6: bool) -> Result<(), BridgedError> {
    set("ipv4/ip_forward", "1")?;
    if ip6 {
        set("ipv6/conf/default/accept_dad", "0")?;
        set("ipv6/conf/default/accept_ra", "0")?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Cards that have their way out from a router's advertisement, and would not have it renewed.
fn cards_that_listen() -> BTreeSet<String> {
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let cards = routes.lines().filter_map(advertised).map(str::to_owned);
    let listens =
        |card: &String| read(&path(&format!("ipv6/conf/{card}/accept_ra"))).is_some_and(|value| value == "1");
    cards.filter(listens).collect()
}

/// The card of a default route that a router advertised: `RTF_DEFAULT` and `RTF_ADDRCONF` of linux/ipv6_route.h.
fn advertised(route: &str) -> Option<&str> {
    const ADVERTISED: u32 = 0x0005_0000;
    let words: Vec<_> = route.split_whitespace().collect();
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    (flags & ADVERTISED == ADVERTISED).then_some(*words.get(9)?)
}

fn tell_and_set(name: &str, value: &str) -> Result<(), BridgedError> {
    let before = read(&path(name)).unwrap_or_default();
    if before == value {
        return Ok(());
    }
    let setting = format!("net.{}", name.replace('/', "."));
    tracing::warn!(
        component = "network",
        "sets {setting} of this host to {value} (it is {before}), so that bridged machines reach the network"
    );
    set(name, value)
}

fn set(name: &str, value: &str) -> Result<(), BridgedError> {
    let path = path(name);
    match fs::write(&path, value) {
        // Some that are right already are read-only in a container.
        Err(_) if read(&path).is_some_and(|now| now == value) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(BridgedError::Privilege),
        done => done.map_err(BridgedError::io("set", path)),
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn path(name: &str) -> PathBuf {
    Path::new(ALL).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_was_advertised_is_told_by_its_flags() {
        let route = |flags: &str| {
            format!("{0} 00 {0} 00 {0} 00000400 00000001 00000000 {flags} eth0", "0".repeat(32))
        };
        assert_eq!(advertised(&route("00450003")), Some("eth0"));
        assert_eq!(advertised(&route("00000003")), None);
        assert_eq!(advertised("no route"), None);
    }
}
