//! What makes a guest this machine and no other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A machine's name, network and disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// The machine's id, 64 hexadecimal digits.
    pub machine: String,
    /// Its host name.
    pub hostname: String,
    /// Nanoseconds since 1970, by the host's clock.
    pub unix_nanos: u64,
    /// Its network card, if it has one.
    pub interface: Option<Interface>,
    /// Name servers, in order.
    pub dns: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Lines for /etc/hosts besides its own: name -> address.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// The image's read-only filesystem.
    pub image: Disk,
    /// The writable layer's filesystem; none makes the container's root read-only.
    pub writable: Option<Disk>,
    /// This start's own number, a UUID, for /run/mimeo/generation.
    #[serde(default)]
    pub generation: Option<String>,
    /// 32 random bytes of the host's, as 64 hexadecimal digits. A guest that was
    /// booted once and copied since needs them.
    #[serde(default)]
    pub entropy: Option<String>,
    /// What /run/mimeo/env holds.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A disk, as the guest finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The serial number that the device reports (`/sys/block/*/serial`), at most 20 bytes.
    pub serial: String,
    /// The filesystem on it, by the kernel's name.
    pub filesystem: String,
    /// Its place among the machine's disks, from 0, where the device reports no serial number of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// A network card, configured without DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Which one: its hardware address, `02:…`.
    pub mac: String,
    /// Its address.
    pub address: Address,
    /// Where all else is sent.
    pub gateway: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its IPv6, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Address6>,
}

/// An IPv6 address, its network and its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address6 {
    /// The address.
    pub ip: Ipv6Addr,
    /// Bits of the network part.
    pub prefix: u8,
    /// Where all else is sent.
    pub gateway: Ipv6Addr,
}

/// An address and its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A directory of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Absolute path in the container; made when it is absent.
    pub target: String,
    /// Refuse writes.
    pub read_only: bool,
    /// What is mounted is one file, not a directory: its name in the served directory.
    #[serde(default)]
    pub file: Option<String>,
    /// The ids that the host serves as its own. The guest's root is shown as
    /// their owner, and the other way round; zero when the host serves as root.
    pub owner_uid: u32,
    /// As `owner_uid`, for groups.
    pub owner_gid: u32,
}
