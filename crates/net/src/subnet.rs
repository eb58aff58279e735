//! The subnet of each machine.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// First address of the range that machine subnets are allocated from. Under
/// user-mode networking they are not visible on the host. Podman, docker and
/// libvirt do not assign this range by default.
const FIRST: u32 = u32::from_be_bytes([10, 201, 0, 0]);
/// Number of subnets in the range.
const COUNT: u16 = 8192;
/// Addresses per subnet: a /30 for the machine and its gateway, and the
/// following /30, which holds the gateway's DNS address. (A /30 has two
/// usable addresses, and the machine and the gateway use both.)
const STRIDE: u32 = 8;

/// One machine's subnet, by its index in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subnet(u16);

/// All subnets of the range are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {COUNT} networks of 10.201.0.0/16 are in use")]
pub struct SubnetsExhausted;

impl Subnet {
    /// The subnet inside each bridged machine's network namespace.
    pub const BRIDGED: Self = Self(0);
    /// The gateway's IPv6 address on a bridged machine's TAP device.
    pub const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x696d, 0x656f, 1, 0, 0, 0, 1);
    /// A bridged machine's IPv6 address, in its namespace.
    pub const GUEST_6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x696d, 0x656f, 1, 0, 0, 0, 2);
    /// Prefix length of these IPv6 addresses.
    pub const PREFIX_6: u8 = 64;
    /// Prefix length that the machine sees.
    pub const PREFIX: u8 = 30;
    /// Prefix length of the subnet with the half that holds the DNS address.
    pub const OUTER_PREFIX: u8 = 29;

    /// The first subnet that is not in `used`.
    ///
    /// # Errors
    /// When all subnets are in `used`.
    pub fn first_free(used: &HashSet<Self>) -> Result<Self, SubnetsExhausted> {
        (0..COUNT).map(Self).find(|subnet| !used.contains(subnet)).ok_or(SubnetsExhausted)
    }

    /// The network address.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.at(0)
    }

    /// The gateway's address, on the host's side.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The machine's address.
    #[must_use]
    pub fn guest(self) -> Ipv4Addr {
        self.at(2)
    }

    /// The address at which the gateway answers DNS queries.
    #[must_use]
    pub fn dns(self) -> Ipv4Addr {
        self.at(5)
    }

    /// The gateway's addresses on a bridged machine's TAP device, with their prefix lengths.
    pub(crate) fn host(self, ip6: bool) -> Vec<(IpAddr, u8)> {
        let mut all = vec![(self.gateway().into(), Self::PREFIX), (self.dns().into(), 32)];
        if ip6 {
            all.push((Self::GATEWAY_6.into(), Self::PREFIX_6));
        }
        all
    }

    fn at(self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(FIRST + u32::from(self.0) * STRIDE + host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_network_is_as_documented() {
        let subnet = Subnet::first_free(&HashSet::new()).expect("one is free");
        assert_eq!(subnet.guest(), Ipv4Addr::new(10, 201, 0, 2));
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 201, 0, 1));
        assert_eq!(subnet.dns(), Ipv4Addr::new(10, 201, 0, 5));
    }

    #[test]
    fn a_full_range_is_refused() {
        let all = (0..COUNT).map(Subnet).collect();
        assert_eq!(Subnet::first_free(&all), Err(SubnetsExhausted));
    }

    proptest! {
        #[test]
        fn networks_never_overlap(a in 0..COUNT, b in 0..COUNT) {
            let outer = |n: u16| u32::from(Subnet(n).network()) >> (32 - Subnet::OUTER_PREFIX);
            prop_assert_eq!(a == b, outer(a) == outer(b));
            prop_assert_eq!(outer(a), u32::from(Subnet(a).dns()) >> (32 - Subnet::OUTER_PREFIX));
        }

        #[test]
        fn a_free_network_is_unused(used in proptest::collection::hash_set(0..64u16, 0..64)) {
            let used: HashSet<_> = used.into_iter().map(Subnet).collect();
            let subnet = Subnet::first_free(&used).expect("the range is larger");
            prop_assert!(!used.contains(&subnet));
        }
    }
}
