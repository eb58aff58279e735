//! The network cards, set up through rtnetlink.

mod message;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mimeo_agent_protocol::message::{Address6, Interface};
use rustix::io::Errno;

use crate::failure::{Context, SystemError};
use crate::netlink::{Kernel, Message};
use message::{
    Assigned, add_address, add_route, assigned, link_down, link_up, link_up_as, list_addresses,
    remove_address,
};

const CARDS: &str = "/sys/class/net";
/// The loopback card's number in every network namespace.
const LOOPBACK: u32 = 1;
/// How long the kernel may take to show the card: its driver may just have come.
const DEADLINE: Duration = Duration::from_secs(10);

/// Brings the loopback up, and the card with its address and route.
pub(crate) fn up(interface: Option<&Interface>) -> Result<(), SystemError> {
    let kernel = Kernel::open(None).context("open a netlink socket")?;
    kernel.ask(&link_up(LOOPBACK, None)).context("bring the loopback up")?;
    let Some(interface) = interface else { return Ok(()) };
    let (index, link) = card(interface)?;
    // Before it is up it makes up no address; after, one of its own hardware address.
    let has_6 = match interface.ipv6 {
        Some(_) => {
            kernel.ask(&link).context("bring the network card up")?;
            version_6(index, true)
        }
        None => {
            version_6(index, false);
            kernel.ask(&link).context("bring the network card up")?;
            false
        }
    };
    address(&kernel, index, interface, has_6)
}

/// Brings the cards up that there are, for a guest that is nobody's yet: a card
/// that is up has only its numbers to change.
pub(crate) fn cards_up() -> Result<(), SystemError> {
    let kernel = Kernel::open(None).context("open a netlink socket")?;
    kernel.ask(&link_up(LOOPBACK, None)).context("bring the loopback up")?;
    let Some(index) = only_card()? else { return Ok(()) };
    version_6(index, false);
    kernel.ask(&link_up(index, None)).context("bring the network card up")
}

/// Lets the card have IPv6 or not, and says whether it has. Where the host gives
/// it none, an address that the kernel makes up by itself leads nowhere, and
/// every copy would have to change it.
fn version_6(index: u32, wanted: bool) -> bool {
    let Some(card) = cards().into_iter().find(|card| self::index(card) == Some(index)) else { return false };
    let name = card.file_name().unwrap_or_default().to_string_lossy();
    let settings = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{name}"));
    // A kernel without IPv6 has no such settings, and makes up no addresses.
    let set = |setting: &str, value: &str| std::fs::write(settings.join(setting), value).is_ok();
    if !wanted {
        set("disable_ipv6", "1");
        return false;
    }
    // The host's side is known: nobody need be asked for routes, nor waited for.
    set("accept_ra", "0") && set("accept_dad", "0") && set("disable_ipv6", "0")
}

/// The card with this hardware address. A guest that had booted before it was
/// this machine has one card with another: that becomes it.
fn card(interface: &Interface) -> Result<(u32, Message), SystemError> {
    if find(&interface.mac).is_none()
        && let Some(index) = only_card()?
    {
        return Ok((index, link_up_as(index, parse(interface)?, interface.mtu)));
    }
    let index = wait(&interface.mac)?;
    Ok((index, link_up(index, Some(interface.mtu))))
}

fn address(kernel: &Kernel, index: u32, interface: &Interface, has_6: bool) -> Result<(), SystemError> {
    if let Some(Address6 { ip, prefix, gateway }) = interface.ipv6.filter(|_| has_6) {
        kernel.ask(&add_address(index, ip.into(), prefix)).context("set the IPv6 address")?;
        kernel.ask(&add_route(index, gateway.into())).context("set the IPv6 default route")?;
    }

    let address = interface.address;
    kernel.ask(&add_address(index, address.ip.into(), address.prefix)).context("set the address")?;
    if interface.gateway == Ipv4Addr::UNSPECIFIED {
        return Ok(());
    }
    kernel.ask(&add_route(index, interface.gateway.into())).context("set the default route")
}

/// Makes the one card that there is, whatever it was, the card of `interface`;
/// without one it is taken down. False when there is nothing to do.
pub(crate) fn become_another(interface: Option<&Interface>) -> Result<bool, SystemError> {
    let mac = interface.map(parse).transpose()?;
    let Some(index) = only_card()? else {
        return match interface {
            Some(_) => Err(SystemError::new("find the network card", Errno::NODEV)),
            None => Ok(false),
        };
    };
    let kernel = Kernel::open(None).context("open a netlink socket")?;
    let old = addresses_of(&kernel, index)?;
    let (Some(interface), Some(mac)) = (interface, mac) else {
        remove(&kernel, &old, &[])?;
        kernel.ask(&link_down(index)).context("take the network card down")?;
        return Ok(true);
    };
    let wanted = wanted(index, interface, mac, &old);
    let given_6 = interface.ipv6.map(|six| Assigned { index, address: six.ip.into(), prefix: six.prefix });
    let kept: Vec<_> = wanted.iter().copied().chain(given_6).collect();
    remove(&kernel, &old, &kept)?;
    kernel.ask(&link_up_as(index, mac, interface.mtu)).context("set the hardware address")?;
    let has_6 = interface.ipv6.is_some() && version_6(index, true);
    address(&kernel, index, interface, has_6)?;
    // The first is set by now; a second there is only with IPv6.
    for Assigned { address, prefix, .. } in wanted.iter().skip(1).filter(|address| !old.contains(address)) {
        kernel.ask(&add_address(index, *address, *prefix)).context("set the link-local address")?;
    }
    Ok(true)
}

/// Takes away what `up` gave the card, which stays up.
pub(crate) fn forget() -> Result<(), SystemError> {
    let Some(index) = only_card()? else { return Ok(()) };
    let kernel = Kernel::open(None).context("open a netlink socket")?;
    remove(&kernel, &addresses_of(&kernel, index)?, &[])
}

/// Takes away all addresses but the wanted. The last of its family takes the card's routes with it.
fn remove(kernel: &Kernel, old: &[Assigned], wanted: &[Assigned]) -> Result<(), SystemError> {
    for Assigned { index, address, prefix } in old.iter().filter(|address| !wanted.contains(address)) {
        kernel.ask(&remove_address(*index, *address, *prefix)).context(format!("take {address} away"))?;
    }
    Ok(())
}

/// The addresses of the card as it is to be. One that had a link-local address
/// made of its hardware address gets the new one's.
fn wanted(index: u32, interface: &Interface, mac: [u8; 6], old: &[Assigned]) -> Vec<Assigned> {
    let (ip, prefix) = (interface.address.ip, interface.address.prefix);
    let mut wanted = vec![Assigned { index, address: ip.into(), prefix }];
    let is_local = |address: &IpAddr| matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if old.iter().any(|old| is_local(&old.address)) {
        wanted.push(Assigned { index, address: from_hardware(mac).into(), prefix: 64 });
    }
    wanted
}

/// RFC 4291, appendix A.
fn from_hardware([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f].into()
}

/// All addresses of this machine.
pub(crate) fn addresses() -> Result<Vec<IpAddr>, SystemError> {
    let kernel = Kernel::open(None).context("open a netlink socket")?;
    Ok(all_addresses(&kernel)?.iter().map(|assigned| assigned.address).collect())
}

fn addresses_of(kernel: &Kernel, index: u32) -> Result<Vec<Assigned>, SystemError> {
    let mut all = all_addresses(kernel)?;
    all.retain(|assigned| assigned.index == index);
    Ok(all)
}

fn all_addresses(kernel: &Kernel) -> Result<Vec<Assigned>, SystemError> {
    let entries = kernel.list(&list_addresses()).context("list the addresses")?;
    Ok(entries.iter().filter_map(|entry| assigned(entry)).collect())
}

/// What the kernel would find out too late: when the old address is gone.
fn parse(interface: &Interface) -> Result<[u8; 6], SystemError> {
    if interface.address.prefix > 32 {
        let what = format!("set the address {}/{}", interface.address.ip, interface.address.prefix);
        return Err(SystemError::new(what, Errno::INVAL));
    }
    hardware(&interface.mac)
        .ok_or_else(|| SystemError::new(format!("set the hardware address {}", interface.mac), Errno::INVAL))
}

/// `02:00:00:00:00:01`; not a group's address, which no card may have.
fn hardware(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|mac: &[u8; 6]| mac[0] & 1 == 0)
}

/// The number of the one card that is a device; what a container makes itself is none.
fn only_card() -> Result<Option<u32>, SystemError> {
    let entries = std::fs::read_dir(CARDS).context("list the network cards")?;
    let mut cards = entries.flatten().map(|card| card.path()).filter(|card| card.join("device").exists());
    match (cards.next(), cards.next()) {
        (None, _) => Ok(None),
        (Some(card), None) => index(&card).map(Some).ok_or_else(|| missing("read the network card's number")),
        (Some(_), Some(_)) => Err(missing("tell which of several network cards is meant")),
    }
}

fn cards() -> Vec<PathBuf> {
    std::fs::read_dir(CARDS).into_iter().flatten().flatten().map(|card| card.path()).collect()
}

fn missing(what: &str) -> SystemError {
    SystemError::new(what, Errno::NODEV)
}

fn wait(mac: &str) -> Result<u32, SystemError> {
    let end = Instant::now() + DEADLINE;
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
    let cards = std::fs::read_dir(CARDS).ok()?;
    cards.flatten().find_map(|card| {
        let address = std::fs::read_to_string(card.path().join("address")).ok()?;
        if !address.trim().eq_ignore_ascii_case(mac) {
            return None;
        }
        index(&card.path())
    })
}

fn index(card: &Path) -> Option<u32> {
    std::fs::read_to_string(card.join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_has_six_bytes_and_is_one_card_s() {
        assert_eq!(hardware("02:0A:00:00:00:ff"), Some([2, 10, 0, 0, 0, 255]));
        for wrong in ["", "02:00:00:00:00", "02:00:00:00:00:0g", "01:00:00:00:00:01", "2:0:0:0:0:1"] {
            assert_eq!(hardware(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_link_local_address_is_made_of_the_card_s() {
        assert_eq!(from_hardware([2, 0, 0, 0, 0, 7]).to_string(), "fe80::ff:fe00:7");
    }
}
