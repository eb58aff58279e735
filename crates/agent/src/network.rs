//! Configures the NIC through rtnetlink.

mod message;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Address6, Interface};
use rustix::io::Errno;

use crate::failure::{Context, SystemError};
use crate::netlink::{Message, NetlinkSocket};
use message::{
    Assigned, add_address, add_route, link_down, link_up, link_up_as, list_addresses, parse_assigned,
    remove_address,
};

const NICS: &str = "/sys/class/net";
/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// Timeout until the NIC appears: its driver may have been loaded just now.
const NIC_TIMEOUT: Duration = Duration::from_secs(10);

/// Brings up the loopback interface, and the NIC with its addresses and routes.
pub(crate) fn up(interface: Option<&Interface>) -> Result<(), SystemError> {
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    netlink.request(&link_up(LOOPBACK, None)).context("bring up the loopback interface")?;
    let Some(interface) = interface else { return Ok(()) };
    let (index, link) = find_nic(interface)?;
    // The kernel generates a link-local address when the NIC comes up: IPv6 must be disabled
    // before that, or is enabled after it.
    let has_ipv6 = match interface.ipv6 {
        Some(_) => {
            netlink.request(&link).context("bring up the NIC")?;
            set_ipv6(index, true)
        }
        None => {
            set_ipv6(index, false);
            netlink.request(&link).context("bring up the NIC")?;
            false
        }
    };
    add_addresses(&netlink, index, interface, has_ipv6)
}

/// Brings up the loopback interface and the NIC of an unconfigured guest: later only
/// the addresses of the NIC have to be changed.
pub(crate) fn bring_nics_up() -> Result<(), SystemError> {
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    netlink.request(&link_up(LOOPBACK, None)).context("bring up the loopback interface")?;
    let Some(index) = only_nic()? else { return Ok(()) };
    set_ipv6(index, false);
    netlink.request(&link_up(index, None)).context("bring up the NIC")
}

/// Enables or disables IPv6 on the NIC, and returns whether it is enabled. When the
/// host provides no IPv6, a link-local address from the kernel is useless, and every
/// clone would have to change it.
fn set_ipv6(index: u32, desired: bool) -> bool {
    let Some(nic) = nics().into_iter().find(|nic| read_index(nic) == Some(index)) else { return false };
    let name = nic.file_name().unwrap_or_default().to_string_lossy();
    let settings = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{name}"));
    // A kernel without IPv6 has no such settings, and generates no addresses.
    let set = |setting: &str, value: &str| std::fs::write(settings.join(setting), value).is_ok();
    if !desired {
        set("disable_ipv6", "1");
        return false;
    }
    // The host provides the address and the route: no router advertisement is needed, and no wait for
    // duplicate address detection.
    set("accept_ra", "0") && set("accept_dad", "0") && set("disable_ipv6", "0")
}

/// Finds the NIC with this MAC address, and builds the message that brings it up. A guest that was
/// restored from a boot snapshot has one NIC with another address: the message changes the address too.
fn find_nic(interface: &Interface) -> Result<(u32, Message), SystemError> {
    if find(&interface.mac).is_none()
        && let Some(index) = only_nic()?
    {
        return Ok((index, link_up_as(index, validated_mac(interface)?, interface.mtu)));
    }
    let index = wait_for_nic(&interface.mac)?;
    Ok((index, link_up(index, Some(interface.mtu))))
}

fn add_addresses(
    netlink: &NetlinkSocket,
    index: u32,
    interface: &Interface,
    has_ipv6: bool,
) -> Result<(), SystemError> {
    if let Some(Address6 { ip, prefix, gateway }) = interface.ipv6.filter(|_| has_ipv6) {
        netlink.request(&add_address(index, ip.into(), prefix)).context("set the IPv6 address")?;
        netlink.request(&add_route(index, gateway.into())).context("set the IPv6 default route")?;
    }

    let address = interface.address;
    netlink.request(&add_address(index, address.ip.into(), address.prefix)).context("set the address")?;
    if interface.gateway == Ipv4Addr::UNSPECIFIED {
        return Ok(());
    }
    netlink.request(&add_route(index, interface.gateway.into())).context("set the default route")
}

/// Reconfigures the only NIC as `interface`, or takes it down when there is none to
/// configure. False when there is nothing to do.
pub(crate) fn reconfigure(interface: Option<&Interface>) -> Result<bool, SystemError> {
    let mac = interface.map(validated_mac).transpose()?;
    let Some(index) = only_nic()? else {
        return match interface {
            Some(_) => Err(SystemError::new("find the NIC", Errno::NODEV)),
            None => Ok(false),
        };
    };
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    let old = addresses_of(&netlink, index)?;
    let (Some(interface), Some(mac)) = (interface, mac) else {
        remove_addresses_except(&netlink, &old, &[])?;
        netlink.request(&link_down(index)).context("take down the NIC")?;
        return Ok(true);
    };
    let desired = desired_addresses(index, interface, mac, &old);
    let new_ipv6 =
        interface.ipv6.map(|ipv6| Assigned { index, address: ipv6.ip.into(), prefix: ipv6.prefix });
    let retained: Vec<_> = desired.iter().copied().chain(new_ipv6).collect();
    remove_addresses_except(&netlink, &old, &retained)?;
    netlink.request(&link_up_as(index, mac, interface.mtu)).context("set the MAC address")?;
    let has_ipv6 = interface.ipv6.is_some() && set_ipv6(index, true);
    add_addresses(&netlink, index, interface, has_ipv6)?;
    // The first address is set by now. A second one exists only with IPv6.
    for Assigned { address, prefix, .. } in desired.iter().skip(1).filter(|address| !old.contains(address)) {
        netlink.request(&add_address(index, *address, *prefix)).context("set the link-local address")?;
    }
    Ok(true)
}

/// Removes the addresses that `up` added. The NIC stays up.
pub(crate) fn remove_addresses() -> Result<(), SystemError> {
    let Some(index) = only_nic()? else { return Ok(()) };
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    remove_addresses_except(&netlink, &addresses_of(&netlink, index)?, &[])
}

/// Removes all addresses but the retained ones. With the last address of a family the kernel removes the NIC's routes.
fn remove_addresses_except(
    netlink: &NetlinkSocket,
    old: &[Assigned],
    retained: &[Assigned],
) -> Result<(), SystemError> {
    for Assigned { index, address, prefix } in old.iter().filter(|address| !retained.contains(address)) {
        netlink
            .request(&remove_address(*index, *address, *prefix))
            .context(format!("remove the address {address}"))?;
    }
    Ok(())
}

/// The addresses that the NIC is to have. If it had a link-local address, it gets the
/// one that belongs to the new MAC address.
fn desired_addresses(index: u32, interface: &Interface, mac: [u8; 6], old: &[Assigned]) -> Vec<Assigned> {
    let (ip, prefix) = (interface.address.ip, interface.address.prefix);
    let mut desired = vec![Assigned { index, address: ip.into(), prefix }];
    let is_local = |address: &IpAddr| matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if old.iter().any(|old| is_local(&old.address)) {
        desired.push(Assigned { index, address: link_local_address(mac).into(), prefix: 64 });
    }
    desired
}

/// The link-local address of a MAC address, by RFC 4291, appendix A.
fn link_local_address([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f].into()
}

/// All addresses of this machine.
pub(crate) fn addresses() -> Result<Vec<IpAddr>, SystemError> {
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    Ok(all_addresses(&netlink)?.iter().map(|assigned| assigned.address).collect())
}

fn addresses_of(netlink: &NetlinkSocket, index: u32) -> Result<Vec<Assigned>, SystemError> {
    let mut all = all_addresses(netlink)?;
    all.retain(|assigned| assigned.index == index);
    Ok(all)
}

fn all_addresses(netlink: &NetlinkSocket) -> Result<Vec<Assigned>, SystemError> {
    let entries = netlink.list(&list_addresses()).context("list the IP addresses")?;
    Ok(entries.iter().filter_map(|entry| parse_assigned(entry)).collect())
}

/// Validates the interface and returns its MAC address. The kernel would refuse an
/// invalid one only after the old address is removed.
fn validated_mac(interface: &Interface) -> Result<[u8; 6], SystemError> {
    if interface.address.prefix > 32 {
        let action = format!("set the address {}/{}", interface.address.ip, interface.address.prefix);
        return Err(SystemError::new(action, Errno::INVAL));
    }
    parse_mac(&interface.mac)
        .ok_or_else(|| SystemError::new(format!("set the MAC address {}", interface.mac), Errno::INVAL))
}

/// Parses `02:00:00:00:00:01`. A multicast address is invalid for a NIC.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|mac: &[u8; 6]| mac[0] & 1 == 0)
}

/// The index of the only NIC that is a device. Interfaces that a container creates are not devices.
fn only_nic() -> Result<Option<u32>, SystemError> {
    let entries = std::fs::read_dir(NICS).context("list the NICs")?;
    let mut nics = entries.flatten().map(|nic| nic.path()).filter(|nic| nic.join("device").exists());
    match (nics.next(), nics.next()) {
        (None, _) => Ok(None),
        (Some(nic), None) => read_index(&nic).map(Some).ok_or_else(|| no_device("read the index of the NIC")),
        (Some(_), Some(_)) => Err(no_device("choose among several NICs")),
    }
}

fn nics() -> Vec<PathBuf> {
    std::fs::read_dir(NICS).into_iter().flatten().flatten().map(|nic| nic.path()).collect()
}

fn no_device(action: &str) -> SystemError {
    SystemError::new(action, Errno::NODEV)
}

fn wait_for_nic(mac: &str) -> Result<u32, SystemError> {
    let end = Instant::now() + NIC_TIMEOUT;
    loop {
        if let Some(index) = find(mac) {
            return Ok(index);
        }
        if Instant::now() > end {
            return Err(SystemError::new(format!("find the NIC {mac}"), Errno::NODEV));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn find(mac: &str) -> Option<u32> {
    let nics = std::fs::read_dir(NICS).ok()?;
    nics.flatten().find_map(|nic| {
        let address = std::fs::read_to_string(nic.path().join("address")).ok()?;
        if !address.trim().eq_ignore_ascii_case(mac) {
            return None;
        }
        read_index(&nic.path())
    })
}

fn read_index(nic: &Path) -> Option<u32> {
    std::fs::read_to_string(nic.join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_has_six_bytes_and_is_unicast() {
        assert_eq!(parse_mac("02:0A:00:00:00:ff"), Some([2, 10, 0, 0, 0, 255]));
        for invalid in ["", "02:00:00:00:00", "02:00:00:00:00:0g", "01:00:00:00:00:01", "2:0:0:0:0:1"] {
            assert_eq!(parse_mac(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_link_local_address_is_derived_from_the_mac() {
        assert_eq!(link_local_address([2, 0, 0, 0, 0, 7]).to_string(), "fe80::ff:fe00:7");
    }
}
