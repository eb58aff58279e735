//! What the guest's agent is told about its machine: identity, network, disks, clock.

mod container_setup;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use mimeo_agent_protocol::link::{self, Link, LinkError};
use mimeo_agent_protocol::message::{Address, Address6, Configure, ContainerSetup, Disk, Interface, System};
use mimeo_net::Subnet;
use mimeo_vmm::DiskIdentification;
use tokio::net::UnixStream;

use crate::machine::{HOST_GATEWAY, IMAGE_SERIAL, NetworkRecord, Record, WRITABLE_SERIAL, disk_position};
use crate::stage::StageError;
pub(crate) use container_setup::container_setup;

/// The name that this program gives itself on a link.
pub(crate) const PROGRAM: &str = concat!("mimeo ", env!("CARGO_PKG_VERSION"));
/// The first session of a guest that booted cold.
pub(crate) const FIRST_SESSION: u32 = 1;
/// Bytes of host entropy for a guest's CRNG.
const ENTROPY_BYTES: usize = 32;
/// MTU of the guest's NIC. The user-mode network has no physical link that would limit it.
const MTU: u32 = 1500;
/// The kernel's name of the filesystem on both disks.
const FILESYSTEM: &str = "ext4";
/// podman's and docker's names of the host.
const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

/// Starts session number `session` with the agent behind `channel`.
pub(crate) async fn connect(channel: UnixStream, session: u32) -> Result<Link, LinkError> {
    let (reader, writer) = channel.into_split();
    let (link, _) = link::connect(reader, writer, session, PROGRAM).await?;
    Ok(link)
}

/// The configuration of a booted guest.
pub(crate) fn configuration(
    record: &Record,
    identification: DiskIdentification,
    setup: ContainerSetup,
) -> Result<Configure, StageError> {
    Ok(Configure {
        machine: record.id.to_string(),
        hostname: hostname(record),
        unix_nanos: unix_nanos(),
        interface: record.network.as_ref().map(interface),
        dns: dns(record),
        dns_search: record.spec.dns_search.clone(),
        dns_options: record.spec.dns_options.clone(),
        hosts: hosts(record),
        image: disk(IMAGE_SERIAL, identification),
        writable: Some(Disk { filesystem: filesystem(record), ..disk(WRITABLE_SERIAL, identification) }),
        vm_generation: record.vm_generation.clone(),
        entropy: Some(entropy()?),
        env: record.spec.env.clone(),
        setup,
        system: record.system.as_ref().map(|system| System { partition: system.partition }),
    })
}

/// The filesystem that the guest mounts of the machine's own disk.
fn filesystem(record: &Record) -> String {
    record.system.as_ref().map_or(FILESYSTEM, |system| &system.filesystem).to_owned()
}

/// A disk of a machine, with what its guest finds it by.
pub(crate) fn disk(serial: &str, identification: DiskIdentification) -> Disk {
    let position = match identification {
        DiskIdentification::Serial => None,
        DiskIdentification::Position => Some(disk_position(serial)),
    };
    Disk { serial: serial.to_owned(), filesystem: FILESYSTEM.to_owned(), position }
}

pub(crate) fn hostname(record: &Record) -> String {
    let default = || match &record.system {
        Some(_) => record.name.to_string(),
        None => record.id.short().to_owned(),
    };
    record.spec.hostname.clone().unwrap_or_else(default)
}

pub(crate) fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

pub(crate) fn interface(network: &NetworkRecord) -> Interface {
    Interface {
        mac: network.mac.to_string(),
        address: Address { ip: network.ip, prefix: Subnet::PREFIX },
        gateway: network.gateway,
        mtu: MTU,
        ipv6: network.outer.and_then(|outer| outer.ip6).map(|_| Address6 {
            ip: Subnet::GUEST_6,
            prefix: Subnet::PREFIX_6,
            gateway: Subnet::GATEWAY_6,
        }),
    }
}

pub(crate) fn dns(record: &Record) -> Vec<String> {
    match &record.network {
        _ if !record.spec.dns.is_empty() => record.spec.dns.clone(),
        Some(network) => vec![network.subnet.dns().to_string()],
        None => Vec::new(),
    }
}

/// The entries for /etc/hosts: the host's names, and the user's.
pub(crate) fn hosts(record: &Record) -> BTreeMap<String, String> {
    let gateway = record.network.as_ref().map(|network| network.gateway().to_string());
    let own = HOST_NAMES.iter().map(|name| ((*name).to_owned(), HOST_GATEWAY.to_owned()));
    let all = own.chain(record.spec.add_hosts.clone());
    let resolved = all.filter_map(|(name, address)| match address.as_str() {
        HOST_GATEWAY => Some((name, gateway.clone()?)),
        _ => Some((name, address)),
    });
    resolved.collect()
}

/// 32 bytes from the host's random number generator, as hexadecimal digits.
pub(crate) fn entropy() -> Result<String, StageError> {
    let mut bytes = [0; ENTROPY_BYTES];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|source| StageError::Entropy { source })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_random_and_has_two_digits_per_byte() {
        let (a, b) = (entropy().expect("read"), entropy().expect("read"));
        assert_eq!(a.len(), 2 * ENTROPY_BYTES);
        assert_ne!(a, b);
    }
}
