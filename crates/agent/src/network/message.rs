//! rtnetlink messages, in the layout of linux/rtnetlink.h.

use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::{Message, attributes};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const INET: u8 = 2;
const INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// Brings up an interface, and sets its MTU.
pub(super) fn link_up(index: u32, mtu: Option<u32>) -> Message {
    let message = link(index, IFF_UP, IFF_UP);
    match mtu {
        Some(mtu) => message.with(IFLA_MTU, &mtu.to_ne_bytes()),
        None => message,
    }
}

/// Takes down an interface.
pub(super) fn link_down(index: u32) -> Message {
    link(index, 0, IFF_UP)
}

/// As [`link_up`], and sets the MAC address. The kernel clears the interface's
/// neighbour table, even when the address is the same.
pub(super) fn link_up_as(index: u32, mac: [u8; 6], mtu: u32) -> Message {
    link_up(index, Some(mtu)).with(IFLA_ADDRESS, &mac)
}

fn link(index: u32, flags: u32, change: u32) -> Message {
    let body = [0, index, flags, change].map(u32::to_ne_bytes).concat();
    Message::new(RTM_NEWLINK, 0, body)
}

/// Adds an address to an interface.
pub(super) fn add_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let message = Message::new(RTM_NEWADDR, CREATE | REPLACE, address_header(index, address, prefix));
    match address {
        IpAddr::V4(ip) => message
            .with(IFA_LOCAL, &ip.octets())
            .with(IFA_ADDRESS, &ip.octets())
            .with(IFA_BROADCAST, &broadcast(ip, prefix).octets()),
        IpAddr::V6(ip) => message.with(IFA_ADDRESS, &ip.octets()),
    }
}

/// Removes an address.
pub(super) fn remove_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let message = Message::new(RTM_DELADDR, 0, address_header(index, address, prefix));
    match address {
        IpAddr::V4(ip) => message.with(IFA_LOCAL, &ip.octets()),
        IpAddr::V6(ip) => message.with(IFA_ADDRESS, &ip.octets()),
    }
}

fn address_header(index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let family = if address.is_ipv4() { INET } else { INET6 };
    [[family, prefix, 0, 0], index.to_ne_bytes()].concat()
}

/// Lists the addresses of all interfaces.
pub(super) fn list_addresses() -> Message {
    Message::new(RTM_GETADDR, 0, vec![0; 8])
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

/// Parses an entry of the list of addresses.
pub(super) fn parse_assigned(entry: &[u8]) -> Option<Assigned> {
    let index = u32::from_ne_bytes(entry.get(4..8)?.try_into().ok()?);
    let attribute = |kind_to_find: u16| {
        attributes(&entry[8..]).find(|(kind, _)| *kind == kind_to_find).map(|(_, value)| value)
    };
    // On a point-to-point interface only IFA_LOCAL is its own address.
    let address = attribute(IFA_LOCAL).or_else(|| attribute(IFA_ADDRESS))?;
    let address = match entry[0] {
        INET => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        INET6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some(Assigned { index, address, prefix: entry[1] })
}

/// Adds a default route to a gateway.
pub(super) fn add_route(index: u32, gateway: IpAddr) -> Message {
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let (family, octets) = match gateway {
        IpAddr::V4(ip) => (INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (INET6, ip.octets().to_vec()),
    };
    let body = vec![family, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, 0, UNICAST, 0, 0, 0, 0];
    Message::new(RTM_NEWROUTE, CREATE | REPLACE, body)
        .with(RTA_GATEWAY, &octets)
        .with(RTA_OIF, &index.to_ne_bytes())
}

fn broadcast(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from(u32::from(ip) | host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_address_ends_the_network() {
        let ip = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(broadcast(ip, 24), Ipv4Addr::new(10, 1, 2, 255));
        assert_eq!(broadcast(ip, 30), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(broadcast(ip, 32), ip);
        assert_eq!(broadcast(ip, 0), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn listed_addresses_are_parsed() {
        let mut entry = vec![INET, 24, 0, 0, 2, 0, 0, 0];
        entry.extend_from_slice(&[8, 0, 1, 0, 10, 0, 2, 2]);
        entry.extend_from_slice(&[8, 0, 2, 0, 10, 0, 2, 15]);
        let expected = Assigned { index: 2, address: IpAddr::from([10, 0, 2, 15]), prefix: 24 };
        assert_eq!(parse_assigned(&entry), Some(expected));
        let mut entry = vec![INET6, 64, 0, 0, 2, 0, 0, 0, 20, 0, 1, 0];
        entry.extend_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
        assert_eq!(parse_assigned(&entry).map(|address| address.address.is_loopback()), Some(true));
        assert_eq!(parse_assigned(&entry[..20]), None);
        assert_eq!(parse_assigned(&[]), None);
    }
}
