//! A machine's configuration: names, network, disks and volumes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::ContainerSetup;

/// A machine's name, network and disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// The machine's id, 64 hexadecimal digits.
    pub machine: String,
    /// Its host name.
    pub hostname: String,
    /// Nanoseconds since 1970, by the host's clock.
    pub unix_nanos: u64,
    /// Its NIC, if it has one.
    pub interface: Option<Interface>,
    /// Name servers, in order.
    pub dns: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Additional entries for /etc/hosts: name -> address.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// The image's read-only filesystem.
    pub image: Disk,
    /// The writable layer's filesystem; without one the container's root is read-only.
    pub writable: Option<Disk>,
    /// The VM generation of this start, a UUID, for /run/mimeo/generation.
    #[serde(default, rename = "generation")]
    pub vm_generation: Option<String>,
    /// 32 random bytes from the host, as 64 hexadecimal digits. A guest that was
    /// restored from a boot snapshot needs them.
    #[serde(default)]
    pub entropy: Option<String>,
    /// The content of /run/mimeo/env.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How the container is set up.
    #[serde(default)]
    pub setup: ContainerSetup,
    /// The whole system on the writable disk, which runs instead of a container. `start` then executes its init as PID 1, and
    /// `exited` never follows: the machine powers off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
}

/// Where a whole system is on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// The number of the partition that holds its root, from 1; absent: its root is the whole disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

/// A disk, and how the guest finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The serial number that the device reports (`/sys/block/*/serial`), at most 20 bytes.
    pub serial: String,
    /// The filesystem on it, by the kernel's name.
    pub filesystem: String,
    /// Its index among the machine's disks, from 0, where the device cannot report our serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// A NIC, configured without DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MAC address, `02:…`, by which the guest finds it.
    pub mac: String,
    /// Its IPv4 address.
    pub address: Address,
    /// The IPv4 default gateway.
    pub gateway: Ipv4Addr,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its IPv6 configuration, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Address6>,
}

/// An IPv6 address, its prefix length and the default gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address6 {
    /// The address.
    pub ip: Ipv6Addr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// The IPv6 default gateway.
    pub gateway: Ipv6Addr,
}

/// An IPv4 address and its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// A directory of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Absolute path in the container; created when it is absent.
    pub target: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Mount one file instead of the directory: its name in the served directory.
    #[serde(default)]
    pub file: Option<String>,
    /// The UID that the host serves files with. The guest sees its files as root's,
    /// and the host sees the guest's root as this user; zero when the host serves as root.
    pub owner_uid: u32,
    /// As `owner_uid`, for groups.
    pub owner_gid: u32,
}

/// A volume on a disk of the guest: a directory that is not part of the container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskVolume {
    /// Absolute path in the container; created when it is absent.
    pub target: String,
    /// The disk that holds the volume and nothing else. Without one, the volume is on the writable layer's disk, and
    /// is found again there by its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// Refuse to execute files of it.
    #[serde(default)]
    pub no_exec: bool,
    /// Heed set-user-ID bits.
    #[serde(default)]
    pub suid: bool,
    /// Allow device files.
    #[serde(default)]
    pub dev: bool,
    /// Give a new volume the container's content at that path.
    #[serde(default)]
    pub copy_up: bool,
    /// The owner of a new volume where the container has nothing at that path: `user[:group]`, as in
    /// [`Process`](super::Process).
    #[serde(default)]
    pub user: String,
}
