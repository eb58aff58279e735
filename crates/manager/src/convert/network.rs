//! Networks and ports.

use std::net::{IpAddr, Ipv4Addr};

use mimeo_engine::machine::{HOST_GATEWAY, MachineSpec, NetworkMode};
use mimeo_manager_api as api;
use mimeo_net::PortMapping;

use super::check::{require, word};
use super::choice::{api_network_mode, api_protocol, network_mode, protocol};
use super::error::{ConvertError, Converted, InField};

/// Sets the network of a spec.
pub(super) fn apply(network: &api::Network, spec: &mut MachineSpec) -> Converted<()> {
    spec.network = network.mode.map_or(NetworkMode::Auto, network_mode);
    spec.vm_to_vm = network.vm_to_vm;
    spec.mac = network.mac.as_deref().map(str::parse).transpose().in_field("network.mac")?;
    spec.bridge_ip = network.ip.as_deref().map(|ip| ipv4("network.ip", ip)).transpose()?;
    let none = spec.network == NetworkMode::None;
    require(spec.mac.is_none() || !none, "network.mac", "with the mode none there is no NIC")?;
    let bridged = spec.network == NetworkMode::Bridged;
    require(spec.bridge_ip.is_none() || bridged, "network.ip", "only a bridged machine has an address")?;
    apply_names(network, spec)
}

fn apply_names(network: &api::Network, spec: &mut MachineSpec) -> Converted<()> {
    for (at, server) in network.dns.iter().enumerate() {
        let is_address = server.parse::<IpAddr>().is_ok();
        require(is_address, format!("network.dns[{at}]"), format!("{server:?} is not an IP address"))?;
    }
    for (at, domain) in network.dns_search.iter().enumerate() {
        word(format!("network.dns_search[{at}]"), domain)?;
    }
    for (at, option) in network.dns_options.iter().enumerate() {
        word(format!("network.dns_options[{at}]"), option)?;
    }
    for (name, address) in &network.add_hosts {
        check_host(network, name, address)?;
    }
    let excluded = network.no_hosts && !network.add_hosts.is_empty();
    require(!excluded, "network.no_hosts", "it excludes network.add_hosts")?;
    spec.dns.clone_from(&network.dns);
    spec.dns_search.clone_from(&network.dns_search);
    spec.dns_options.clone_from(&network.dns_options);
    spec.add_hosts.clone_from(&network.add_hosts);
    spec.no_hosts = network.no_hosts;
    Ok(())
}

fn check_host(network: &api::Network, name: &str, address: &str) -> Converted<()> {
    word("network.add_hosts", name)?;
    let field = format!("network.add_hosts.{name}");
    let is_gateway = address == HOST_GATEWAY;
    let is_address = is_gateway || address.parse::<IpAddr>().is_ok();
    require(is_address, &field, format!("{address:?} is neither an IP address nor {HOST_GATEWAY}"))?;
    let no_host = is_gateway && network.mode == Some(api::NetworkMode::None);
    require(!no_host, field, "with the mode none the host is not reachable")
}

fn ipv4(field: &str, text: &str) -> Converted<Ipv4Addr> {
    text.parse().map_err(|_| ConvertError::new(field, format!("{text:?} is not an IPv4 address")))
}

/// The network of a spec.
pub(super) fn api_network(spec: &MachineSpec) -> api::Network {
    api::Network {
        mode: Some(api_network_mode(spec.network)),
        mac: spec.mac.map(|mac| mac.to_string()),
        ip: spec.bridge_ip.map(|ip| ip.to_string()),
        vm_to_vm: spec.vm_to_vm,
        dns: spec.dns.clone(),
        dns_search: spec.dns_search.clone(),
        dns_options: spec.dns_options.clone(),
        add_hosts: spec.add_hosts.clone(),
        no_hosts: spec.no_hosts,
    }
}

/// The published ports.
pub(super) fn ports(ports: &[api::Port]) -> Converted<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let field = format!("ports[{at}]");
        let host_ip = port.host_ip.as_deref().map(|ip| ipv4(&format!("{field}.host_ip"), ip)).transpose()?;
        for offset in 0..range(&field, port.range)? {
            let host_port = port.host_port.map(|port| shifted(&format!("{field}.host_port"), port, offset));
            mappings.push(PortMapping {
                host_ip: host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
                host_port: host_port.transpose()?,
                guest_port: shifted(&format!("{field}.container_port"), port.container_port, offset)?,
                protocol: protocol(port.protocol),
            });
        }
    }
    Ok(mappings)
}

/// The exposed ports.
pub(super) fn expose(ports: &[api::ExposedPort]) -> Converted<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let field = format!("expose[{at}]");
        for offset in 0..range(&field, port.range)? {
            mappings.push(PortMapping {
                host_ip: Ipv4Addr::UNSPECIFIED,
                host_port: None,
                guest_port: shifted(&format!("{field}.container_port"), port.container_port, offset)?,
                protocol: protocol(port.protocol),
            });
        }
    }
    Ok(mappings)
}

fn range(field: &str, range: Option<u16>) -> Converted<u16> {
    let range = range.unwrap_or(1);
    require(range > 0, format!("{field}.range"), "0 is no number of ports")?;
    Ok(range)
}

fn shifted(field: &str, port: u16, offset: u16) -> Converted<u16> {
    let shifted = port.checked_add(offset).filter(|_| port > 0);
    shifted.ok_or_else(|| ConvertError::new(field, format!("{port} is not a port between 1 and 65535")))
}

/// Converts a published port into a request.
#[must_use]
pub fn api_port(mapping: &PortMapping) -> api::Port {
    api::Port {
        container_port: mapping.guest_port,
        host_port: mapping.host_port,
        host_ip: Some(mapping.host_ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
        protocol: api_protocol(mapping.protocol),
        range: None,
    }
}

/// An exposed port.
pub(super) fn api_exposed_port(mapping: &PortMapping) -> api::ExposedPort {
    let protocol = api_protocol(mapping.protocol);
    api::ExposedPort { container_port: mapping.guest_port, protocol, range: None }
}
