//! Chooses the subnets of machines.

use std::collections::HashSet;

use mimeo_net::{MacAddress, Subnet, SubnetsExhausted};

use super::{Found, NetworkMode, NetworkRecord, Record};

/// Chooses a subnet that no living machine uses: that of the machine's previous run, if it is free. Ports keep
/// the numbers that they had then.
pub(super) fn allocate_network(
    record: &Record,
    others: &[Found],
    previous: Option<&NetworkRecord>,
) -> Result<Option<NetworkRecord>, SubnetsExhausted> {
    let ports = previous.map_or_else(|| record.spec.ports.clone(), |previous| previous.ports.clone());
    let mac = record.spec.mac.unwrap_or_else(|| MacAddress::local(record.id.tail()));
    match record.spec.network {
        NetworkMode::None => return Ok(None),
        // All bridged machines have the same subnet, each in its own network namespace.
        NetworkMode::Bridged => return Ok(Some(network_record(Subnet::BRIDGED, mac, ports))),
        NetworkMode::Auto | NetworkMode::Rootless => {}
    }
    let is_rootless = |found: &&Found| found.record.spec.network != NetworkMode::Bridged;
    let living = others.iter().filter(is_rootless);
    let living = living.filter(|found| found.record.phase().is_live());
    let used: HashSet<Subnet> =
        living.filter_map(|found| found.record.network.as_ref().map(|network| network.subnet)).collect();
    let free = previous.map(|previous| previous.subnet).filter(|subnet| !used.contains(subnet));
    let subnet = free.map_or_else(|| Subnet::first_free(&used), Ok)?;
    Ok(Some(network_record(subnet, mac, ports)))
}

impl NetworkRecord {
    /// Returns a network for a guest that is not assigned to a machine yet. Each guest has its own
    /// network, so its addresses may coincide with another's.
    pub(crate) fn placeholder() -> Result<Self, SubnetsExhausted> {
        let subnet = Subnet::first_free(&HashSet::new())?;
        Ok(network_record(subnet, MacAddress::local([0; 5]), Vec::new()))
    }
}

fn network_record(subnet: Subnet, mac: MacAddress, ports: Vec<mimeo_net::PortMapping>) -> NetworkRecord {
    NetworkRecord { subnet, ip: subnet.guest(), gateway: subnet.gateway(), mac, outer: None, ports }
}
