//! How a machine is connected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_false;

/// How a machine is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The kind of network. Default: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
    /// The NIC's MAC address. Default: derived from the machine's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("02:00:00:00:00:01"))]
    pub mac: Option<String>,
    /// The IPv4 address; only with `bridged`. Default: a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// With `bridged`: allow connections between this machine and others that have this option.
    #[serde(skip_serializing_if = "is_false")]
    pub vm_to_vm: bool,
    /// Addresses of name servers, instead of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains in which names without a dot are looked up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Entries for /etc/hosts: name to address. The address `host-gateway` stands for the host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add_hosts: BTreeMap<String, String>,
    /// Leave /etc/hosts as it is in the image.
    #[serde(skip_serializing_if = "is_false")]
    pub no_hosts: bool,
}

/// A kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// `rootless`, or `bridged` if the driver has no user-mode networking.
    Auto,
    /// User-mode networking.
    Rootless,
    /// A bridge of the host: the manager needs root.
    Bridged,
    /// No network.
    None,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that is forwarded to a port of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The machine's port.
    #[schema(minimum = 1)]
    pub container_port: u16,
    /// The host's port. Default: a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub host_port: Option<u16>,
    /// The host's IPv4 address to listen on. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// The transport protocol. Default: `tcp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// The number of consecutive ports, from these on. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub range: Option<u16>,
}

/// A port of the machine that `publish_all` publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExposedPort {
    /// The machine's port.
    #[schema(minimum = 1)]
    pub container_port: u16,
    /// The transport protocol. Default: `tcp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// The number of consecutive ports, from this one on. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub range: Option<u16>,
}
