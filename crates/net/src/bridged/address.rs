//! Machine addresses on the bridge.

use std::collections::HashSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::BridgedError;

/// The bridge's network, next to that of [`Subnet`](crate::Subnet). Podman, docker and libvirt do not assign it
/// by default.
const NETWORK: u32 = u32::from_be_bytes([10, 202, 0, 0]);
/// `fd`, and `mimeo` in ASCII.
const NETWORK_6: [u16; 4] = [0xfd6d, 0x696d, 0x656f, 0];
/// The first address is the bridge's; the last is the broadcast address.
const FIRST: u16 = 2;
const LAST: u16 = u16::MAX - 1;

/// One machine's addresses on the bridge, by their offset in its networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BridgeAddress(u16);

impl BridgeAddress {
    /// The bridge itself: the machines' gateway.
    pub(crate) const BRIDGE: Self = Self(1);
    /// Prefix length of the bridge's IPv4 network.
    pub const PREFIX: u8 = 16;
    /// Prefix length of the bridge's IPv6 network.
    pub(crate) const PREFIX_6: u8 = 64;

    /// The first free address after the highest one in use: an address that was
    /// freed a moment ago may still be in a neighbour table.
    pub(crate) fn next_free(used: &HashSet<Self>) -> Result<Self, BridgedError> {
        let last = used.iter().map(|address| address.0).max().unwrap_or(FIRST - 1);
        let after = last.saturating_add(1).max(FIRST)..=LAST;
        let mut candidates = after.chain(FIRST..=LAST).map(Self);
        candidates.find(|address| !used.contains(address)).ok_or(BridgedError::Exhausted)
    }

    /// The address that a machine requests, if it is not in `used`.
    pub(crate) fn requested(ip: Ipv4Addr, used: &HashSet<Self>) -> Result<Self, BridgedError> {
        let parsed = ip.to_string().parse::<Self>().ok();
        let address = parsed.filter(|address| (FIRST..=LAST).contains(&address.0));
        let address = address.ok_or(BridgedError::NotOnBridge { ip })?;
        if used.contains(&address) { Err(BridgedError::AddressInUse { ip }) } else { Ok(address) }
    }

    /// The IPv4 address of the machines' gateway.
    #[must_use]
    pub fn gateway() -> Ipv4Addr {
        Self::BRIDGE.ip()
    }

    /// The IPv4 address.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from(NETWORK + u32::from(self.0))
    }

    /// The IPv6 address.
    #[must_use]
    pub fn ip6(self) -> Ipv6Addr {
        let [a, b, c, d] = NETWORK_6;
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, self.0)
    }
}

impl fmt::Display for BridgeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip())
    }
}

impl FromStr for BridgeAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ip: Ipv4Addr = text.parse().map_err(|_| ())?;
        let offset = u32::from(ip).checked_sub(NETWORK).ok_or(())?;
        u16::try_from(offset).map(Self).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_free_addresses_of_the_bridge_are_granted() {
        let used = HashSet::from([BridgeAddress(7)]);
        let requested = |ip: &str| BridgeAddress::requested(ip.parse().expect("an address"), &used);
        assert_eq!(requested("10.202.0.9").expect("granted"), BridgeAddress(9));
        assert!(matches!(requested("10.202.0.7"), Err(BridgedError::AddressInUse { .. })));
        for outside in ["10.202.0.0", "10.202.0.1", "10.202.255.255", "10.203.0.2", "10.201.0.2", "0.0.0.0"] {
            assert!(matches!(requested(outside), Err(BridgedError::NotOnBridge { .. })), "{outside}");
        }
    }

    #[test]
    fn the_first_address_is_as_documented() {
        let first = BridgeAddress::next_free(&HashSet::new()).expect("one is free");
        assert_eq!(first.ip(), Ipv4Addr::new(10, 202, 0, 2));
        assert_eq!(first.ip6().to_string(), "fd6d:696d:656f::2");
        assert_eq!(BridgeAddress::BRIDGE.ip(), Ipv4Addr::new(10, 202, 0, 1));
    }

    #[test]
    fn a_full_network_is_refused() {
        let all = (FIRST..=LAST).map(BridgeAddress).collect();
        assert!(matches!(BridgeAddress::next_free(&all), Err(BridgedError::Exhausted)));
    }

    proptest! {
        #[test]
        fn a_free_address_is_unused_and_round_trips_as_text(used in proptest::collection::hash_set(FIRST..=LAST, 0..64)) {
            let used: HashSet<_> = used.into_iter().map(BridgeAddress).collect();
            let address = BridgeAddress::next_free(&used).expect("there are more");
            prop_assert!(!used.contains(&address));
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
