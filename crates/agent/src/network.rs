//! The network cards, set up through rtnetlink.

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
/// The loopback card's number in every network namespace.
const LOOPBACK: u32 = 1;
/// How long the kernel may take to show the card: its driver may just have come.
const NIC_TIMEOUT: Duration = Duration::from_secs(10);

/// Brings the loopback up, and the card with its address and route.
pub(crate) fn up(interface: Option<&Interface>) -> Result<(), SystemError> {
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    netlink.request(&link_up(LOOPBACK, None)).context("bring the loopback up")?;
    let Some(interface) = interface else { return Ok(()) };
    let (index, link) = find_or_replace(interface)?;
    // Before it is up it makes up no address; after, one of its own hardware address.
    let has_ipv6 = match interface.ipv6 {
        Some(_) => {
            netlink.request(&link).context("bring the network card up")?;
            set_ipv6(index, true)
        }
        None => {
            set_ipv6(index, false);
            netlink.request(&link).context("bring the network card up")?;
            false
        }
    };
    add_addresses(&netlink, index, interface, has_ipv6)
}

/// Brings the cards up that there are, for a guest that is nobody's yet: a card
/// that is up has only its numbers to change.
pub(crate) fn bring_nics_up() -> Result<(), SystemError> {
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    netlink.request(&link_up(LOOPBACK, None)).context("bring the loopback up")?;
    let Some(index) = only_nic()? else { return Ok(()) };
    set_ipv6(index, false);
    netlink.request(&link_up(index, None)).context("bring the network card up")
}

/// Lets the card have IPv6 or not, and says whether it has. Where the host gives
/// it none, an address that the kernel makes up by itself leads nowhere, and
/// every copy would have to change it.
fn set_ipv6(index: u32, desired: bool) -> bool {
    let Some(nic) = nics().into_iter().find(|nic| read_index(nic) == Some(index)) else { return false };
    let name = nic.file_name().unwrap_or_default().to_string_lossy();
    let settings = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{name}"));
    // A kernel without IPv6 has no such settings, and makes up no addresses.
    let set = |setting: &str, value: &str| std::fs::write(settings.join(setting), value).is_ok();
    if !desired {
        set("disable_ipv6", "1");
        return false;
    }
    // The host's side is known: nobody need be asked for routes, nor waited for.
    set("accept_ra", "0") && set("accept_dad", "0") && set("disable_ipv6", "0")
}

/// The card with this hardware address. A guest that had booted before it was
/// this machine has one card with another: that becomes it.
fn find_or_replace(interface: &Interface) -> Result<(u32, Message), SystemError> {
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

/// Makes the one card that there is, whatever it was, the card of `interface`;
/// without one it is taken down. False when there is nothing to do.
pub(crate) fn reconfigure(interface: Option<&Interface>) -> Result<bool, SystemError> {
    let mac = interface.map(validated_mac).transpose()?;
    let Some(index) = only_nic()? else {
        return match interface {
            Some(_) => Err(SystemError::new("find the network card", Errno::NODEV)),
            None => Ok(false),
        };
    };
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    let old = addresses_of(&netlink, index)?;
    let (Some(interface), Some(mac)) = (interface, mac) else {
        remove_addresses_except(&netlink, &old, &[])?;
        netlink.request(&link_down(index)).context("take the network card down")?;
        return Ok(true);
    };
    let desired = desired_addresses(index, interface, mac, &old);
    let new_ipv6 =
        interface.ipv6.map(|ipv6| Assigned { index, address: ipv6.ip.into(), prefix: ipv6.prefix });
    let desired_and_ipv6: Vec<_> = desired.iter().copied().chain(new_ipv6).collect();
    remove_addresses_except(&netlink, &old, &desired_and_ipv6)?;
    netlink.request(&link_up_as(index, mac, interface.mtu)).context("set the hardware address")?;
    let has_ipv6 = interface.ipv6.is_some() && set_ipv6(index, true);
    add_addresses(&netlink, index, interface, has_ipv6)?;
    // The first is set by now; a second there is only with IPv6.
    for Assigned { address, prefix, .. } in desired.iter().skip(1).filter(|address| !old.contains(address)) {
        netlink.request(&add_address(index, *address, *prefix)).context("set the link-local address")?;
    }
    Ok(true)
}

/// Takes away what `up` gave the card, which stays up.
pub(crate) fn remove_addresses() -> Result<(), SystemError> {
    let Some(index) = only_nic()? else { return Ok(()) };
    let netlink = NetlinkSocket::open(None).context("open a netlink socket")?;
    remove_addresses_except(&netlink, &addresses_of(&netlink, index)?, &[])
}

/// Takes away all addresses but the wanted. The last of its family takes the card's routes with it.
fn remove_addresses_except(
    netlink: &NetlinkSocket,
    old: &[Assigned],
    desired: &[Assigned],
) -> Result<(), SystemError> {
    for Assigned { index, address, prefix } in old.iter().filter(|address| !desired.contains(address)) {
        netlink
            .request(&remove_address(*index, *address, *prefix))
            .context(format!("take {address} away"))?;
    }
    Ok(())
}

/// The addresses of the card as it is to be. One that had a link-local address
/// made of its hardware address gets the new one's.
fn desired_addresses(index: u32, interface: &Interface, mac: [u8; 6], old: &[Assigned]) -> Vec<Assigned> {
    let (ip, prefix) = (interface.address.ip, interface.address.prefix);
    let mut desired = vec![Assigned { index, address: ip.into(), prefix }];
    let is_local = |address: &IpAddr| matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if old.iter().any(|old| is_local(&old.address)) {
        desired.push(Assigned { index, address: link_local_address(mac).into(), prefix: 64 });
    }
    desired
}

/// RFC 4291, appendix A.
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
    let entries = netlink.list(&list_addresses()).context("list the addresses")?;
    Ok(entries.iter().filter_map(|entry| parse_assigned(entry)).collect())
}

/// What the kernel would find out too late: when the old address is gone.
fn validated_mac(interface: &Interface) -> Result<[u8; 6], SystemError> {
    if interface.address.prefix > 32 {
        let action = format!("set the address {}/{}", interface.address.ip, interface.address.prefix);
        return Err(SystemError::new(action, Errno::INVAL));
    }
    parse_mac(&interface.mac)
        .ok_or_else(|| SystemError::new(format!("set the hardware address {}", interface.mac), Errno::INVAL))
}

/// `02:00:00:00:00:01`; not a group's address, which no card may have.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|mac: &[u8; 6]| mac[0] & 1 == 0)
}

/// The number of the one card that is a device; what a container makes itself is none.
fn only_nic() -> Result<Option<u32>, SystemError> {
    let entries = std::fs::read_dir(NICS).context("list the network cards")?;
    let mut nics = entries.flatten().map(|nic| nic.path()).filter(|nic| nic.join("device").exists());
    match (nics.next(), nics.next()) {
        (None, _) => Ok(None),
        (Some(nic), None) => {
            read_index(&nic).map(Some).ok_or_else(|| no_device("read the network card's number"))
        }
        (Some(_), Some(_)) => Err(no_device("tell which of several network cards is meant")),
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
            return Err(SystemError::new(format!("find the network card {mac}"), Errno::NODEV));
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
