//! rtnetlink messages, as linux/netlink.h and linux/rtnetlink.h lay them out.

use std::net::Ipv4Addr;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const REQUEST_WITH_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const HEADER: usize = 16;

/// Brings a card up, with the largest packet that it may carry.
pub(super) fn link_up(index: u32, mtu: Option<u32>) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, IFF_UP, IFF_UP] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    if let Some(mtu) = mtu {
        attribute(&mut body, IFLA_MTU, mtu.to_ne_bytes());
    }
    message(RTM_NEWLINK, 0, &body)
}

/// Gives a card an address.
pub(super) fn add_address(index: u32, ip: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![INET, prefix, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, ip.octets());
    attribute(&mut body, IFA_ADDRESS, ip.octets());
    attribute(&mut body, IFA_BROADCAST, broadcast(ip, prefix).octets());
    message(RTM_NEWADDR, CREATE | REPLACE, &body)
}

/// Sends everything else to a gateway.
pub(super) fn add_route(index: u32, gateway: Ipv4Addr) -> Vec<u8> {
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let mut body = vec![INET, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, 0, UNICAST, 0, 0, 0, 0];
    attribute(&mut body, RTA_GATEWAY, gateway.octets());
    attribute(&mut body, RTA_OIF, index.to_ne_bytes());
    message(RTM_NEWROUTE, CREATE | REPLACE, &body)
}

/// The error number in the kernel's answer, 0 when it did what was asked.
pub(super) fn refusal(answer: &[u8]) -> i32 {
    match answer.get(HEADER..HEADER + 4) {
        Some(code) => -i32::from_ne_bytes([code[0], code[1], code[2], code[3]]),
        None => rustix::io::Errno::PROTO.raw_os_error(),
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST_WITH_ACK | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    message
}

/// All our attributes are four bytes long, so none needs padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    body.extend_from_slice(&8u16.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(&value);
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
    fn a_message_says_its_own_length() {
        let message = add_address(2, Ipv4Addr::LOCALHOST, 8);
        assert_eq!(
            u32::from_ne_bytes([message[0], message[1], message[2], message[3]]) as usize,
            message.len()
        );
    }
}
