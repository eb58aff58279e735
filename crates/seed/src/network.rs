//! The seed's `network-config`, version 2.
//!
//! Interfaces are matched by MAC address, never by name: the name of an interface
//! depends on the machine type, and cloud-init's state on a copied disk is of another MAC address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::{SeedError, check};

const MAX_INTERFACES: usize = 16;
const MAX_DNS: usize = 8;
const MAX_SEARCH_DOMAINS: usize = 16;

/// The guest's network interfaces. One that is not listed is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// At most 16, each with another MAC address.
    pub interfaces: Vec<Interface>,
}

/// How one interface is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// IPv4; `None` is without.
    pub ipv4: Option<Addressing<Ipv4Addr>>,
    /// IPv6; with `None`, router advertisements are answered as the guest's kernel does by default.
    pub ipv6: Option<Addressing<Ipv6Addr>>,
    /// Name servers, in addition to those that DHCP gives. At most 8.
    pub dns: Vec<IpAddr>,
    /// Search domains. At most 16.
    pub search: Vec<String>,
    /// Largest packet in bytes; `None` is the interface's own.
    pub mtu: Option<u16>,
}

/// Where addresses of one family come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing<A> {
    /// A DHCP server. A guest without IPv6's server waits for it while it boots.
    Dhcp,
    /// One address.
    Static {
        /// The address.
        address: A,
        /// The length of its network's prefix, in bits.
        prefix: u8,
        /// The default route, in the address's network or, for IPv6, a link-local address.
        gateway: Option<A>,
    },
}

impl Network {
    pub(crate) fn validate(&self) -> Result<(), SeedError> {
        check::count("network interfaces", self.interfaces.len(), MAX_INTERFACES)?;
        let mut macs = BTreeSet::new();
        for interface in &self.interfaces {
            interface.validate()?;
            check::ensure(macs.insert(interface.mac), || SeedError::SameMac(mac_text(interface.mac)))?;
        }
        Ok(())
    }

    /// The file's content: JSON, which is YAML.
    pub(crate) fn render(&self) -> Result<Vec<u8>, SeedError> {
        let ethernets = self.interfaces.iter().enumerate();
        let ethernets = ethernets.map(|(index, interface)| (format!("nic{index}"), interface.ethernet()));
        serde_json::to_vec_pretty(&Config { version: 2, ethernets: ethernets.collect() })
            .map_err(|source| SeedError::Render { name: "network-config", source })
    }
}

impl Interface {
    fn validate(&self) -> Result<(), SeedError> {
        check::count("name servers", self.dns.len(), MAX_DNS)?;
        check::count("search domains", self.search.len(), MAX_SEARCH_DOMAINS)?;
        self.search.iter().try_for_each(|domain| check::search_domain(domain))?;
        self.ipv4.as_ref().map_or(Ok(()), Addressing::validate)?;
        self.ipv6.as_ref().map_or(Ok(()), Addressing::validate)?;
        match self.mtu {
            Some(mtu @ ..576) => Err(SeedError::Mtu(mtu)),
            _ => Ok(()),
        }
    }

    fn ethernet(&self) -> Ethernet<'_> {
        let (ipv4, ipv6) = (self.ipv4.as_ref(), self.ipv6.as_ref());
        let nameservers = Nameservers { addresses: &self.dns, search: &self.search };
        Ethernet {
            r#match: Match { macaddress: mac_text(self.mac) },
            dhcp4: matches!(ipv4, Some(Addressing::Dhcp)),
            dhcp6: matches!(ipv6, Some(Addressing::Dhcp)),
            addresses: ipv4
                .and_then(Addressing::cidr)
                .into_iter()
                .chain(ipv6.and_then(Addressing::cidr))
                .collect(),
            gateway4: ipv4.and_then(Addressing::gateway),
            gateway6: ipv6.and_then(Addressing::gateway),
            nameservers: (!self.dns.is_empty() || !self.search.is_empty()).then_some(nameservers),
            mtu: self.mtu,
        }
    }
}

impl<A: Copy + Into<IpAddr>> Addressing<A> {
    fn validate(&self) -> Result<(), SeedError> {
        let Self::Static { address, prefix, gateway } = self else { return Ok(()) };
        let (address, prefix): (IpAddr, _) = ((*address).into(), *prefix);
        let limit = if address.is_ipv4() { 32 } else { 128 };
        check::ensure(prefix <= limit, || SeedError::Prefix { address, prefix, limit })?;
        match (*gateway).map(Into::into) {
            Some(gateway) if !is_reachable(gateway, address, prefix) => {
                Err(SeedError::Gateway { gateway, address, prefix })
            }
            _ => Ok(()),
        }
    }

    fn cidr(&self) -> Option<String> {
        match self {
            Self::Static { address, prefix, .. } => {
                let address: IpAddr = (*address).into();
                Some(format!("{address}/{prefix}"))
            }
            Self::Dhcp => None,
        }
    }

    fn gateway(&self) -> Option<IpAddr> {
        match self {
            Self::Static { gateway, .. } => (*gateway).map(Into::into),
            Self::Dhcp => None,
        }
    }
}

/// Whether the gateway is a neighbour of a guest with this address.
fn is_reachable(gateway: IpAddr, address: IpAddr, prefix: u8) -> bool {
    match (gateway, address) {
        (IpAddr::V4(gateway), IpAddr::V4(address)) => {
            let differing = gateway.to_bits() ^ address.to_bits();
            differing != 0 && differing.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(gateway), IpAddr::V6(address)) => {
            let differing = gateway.to_bits() ^ address.to_bits();
            differing != 0
                && (gateway.is_unicast_link_local() || differing.leading_zeros() >= u32::from(prefix))
        }
        _ => false,
    }
}

/// cloud-init compares MAC addresses in lower case.
fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The file, without the outer `network` that netplan's own files have: older cloud-inits do not know it.
#[derive(Serialize)]
struct Config<'a> {
    version: u8,
    ethernets: BTreeMap<String, Ethernet<'a>>,
}

#[derive(Serialize)]
struct Ethernet<'a> {
    r#match: Match,
    dhcp4: bool,
    dhcp6: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    // Not `routes`: for Debian's ifupdown cloud-init adds them to the first address, whatever its family.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway4: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway6: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nameservers: Option<Nameservers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
}

#[derive(Serialize)]
struct Match {
    macaddress: String,
}

#[derive(Serialize)]
struct Nameservers<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [String],
}
