//! Options of `run` for the machine's network.

use std::net::Ipv4Addr;

use mimeo_engine::MachineSpec;
use mimeo_engine::machine::{HOST_GATEWAY, NetworkMode};
use mimeo_net::MacAddress;

use crate::error::CliError;
use crate::values::ports;

/// podman's names of networks that a machine cannot use, and the reason.
const REFUSED: [(&str, &str); 5] = [
    (
        "host",
        "a machine has a network stack of its own: publish ports with -p, and reach the host as host.containers.internal",
    ),
    (
        "container",
        "machines do not share a network stack: with --network bridged --vm-to-vm they reach each other",
    ),
    ("ns", "a machine has a network stack of its own"),
    ("slirp4netns", "its options do not apply to mimeo's user-mode networking: use --network rootless"),
    ("pasta", "mimeo's user-mode networking is part of QEMU: use --network rootless"),
];

/// The network mode.
pub(crate) fn mode(text: &str) -> Result<NetworkMode, String> {
    match text {
        "auto" | "default" | "private" => Ok(NetworkMode::Auto),
        "rootless" | "slirp4netns" => Ok(NetworkMode::Rootless),
        "bridged" | "bridge" => Ok(NetworkMode::Bridged),
        "none" => Ok(NetworkMode::None),
        _ => Err(refusal(text)),
    }
}

fn refusal(text: &str) -> String {
    let kind = text.split(':').next().unwrap_or_default();
    match REFUSED.iter().find(|(refused, _)| *refused == kind) {
        Some((_, reason)) => (*reason).to_owned(),
        None => "mimeo has no named networks: use auto, rootless, bridged or none".to_owned(),
    }
}

/// Names, addresses and ports.
#[derive(Debug, clap::Args)]
pub(super) struct NetworkOptions {
    /// Domain in which names without a dot are looked up; can be repeated
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option for the resolver, such as ndots:2; can be repeated
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Expose a port or a range of ports, for --publish-all; can be repeated
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// Publish all ports that the image and --expose name, each on a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// The machine's address; with --network bridged
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// The MAC address of the machine's NIC; random by default
    #[arg(long, value_name = "MAC")]
    mac_address: Option<MacAddress>,
}

impl NetworkOptions {
    /// Applies the options.
    pub(super) fn apply(self, spec: &mut MachineSpec) -> Result<(), CliError> {
        let none = spec.network == NetworkMode::None;
        if none && spec.add_hosts.values().any(|address| address == HOST_GATEWAY) {
            return Err(CliError::usage(
                "cannot use host-gateway: with --network none the host is not reachable",
            ));
        }
        if self.ip.is_some() && spec.network != NetworkMode::Bridged {
            return Err(CliError::usage(
                "cannot use --ip: only machines on the bridge have an address that others see; with --network bridged \
                 it is one of 10.202.0.0/16",
            ));
        }
        if none && self.mac_address.is_some() {
            return Err(CliError::usage("cannot use --mac-address: with --network none there is no NIC"));
        }
        if let Some(bad) = self.dns_search.iter().chain(&self.dns_option).find(|text| !is_word(text)) {
            return Err(CliError::usage(format!("{bad:?} is not a word for /etc/resolv.conf")));
        }
        // podman's way to write that no domain is searched.
        spec.dns_search = self.dns_search.into_iter().filter(|domain| domain != ".").collect();
        spec.dns_options = self.dns_option;
        spec.expose = exposed(&self.expose)?;
        spec.publish_exposed = self.publish_all;
        (spec.bridge_ip, spec.mac) = (self.ip, self.mac_address);
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn exposed(texts: &[String]) -> Result<Vec<mimeo_net::PortMapping>, CliError> {
    if let Some(bad) = texts.iter().find(|text| text.contains(':')) {
        return Err(CliError::usage(format!(
            "--expose {bad:?} is not a port of the machine: publish it with -p"
        )));
    }
    ports(texts)
}
