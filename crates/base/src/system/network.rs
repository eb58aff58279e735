//! How a system configures its network, and which renderer cloud-init will use.

use serde::{Deserialize, Serialize};

use super::cloud_init;
use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "network";
/// cloud-init's own order of preference, unless its configuration has another.
const PRIORITY: [&str; 5] = ["eni", "sysconfig", "netplan", "network-manager", "networkd"];
const NETWORKD_UNITS: [&str; 2] = [
    "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
    "/etc/systemd/system/dbus-org.freedesktop.network1.service",
];

/// How a system configures its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What is installed: `ifupdown`, `netplan`, `NetworkManager`, `systemd-networkd`.
    pub managers: Vec<String>,
    /// The renderer that cloud-init will use, by its own name; `None` if it has none.
    pub renderer: Option<String>,
    /// Whether systemd-networkd starts at boot.
    pub is_networkd_enabled: bool,
}

pub(super) fn inspect(tree: &Tree) -> Network {
    let managers = [
        ("ifupdown", has_program(tree, "ifup")),
        ("netplan", has_program(tree, "netplan")),
        ("NetworkManager", has_program(tree, "NetworkManager")),
        ("systemd-networkd", has_networkd(tree)),
    ];
    let installed = managers.into_iter().filter(|(_, is_installed)| *is_installed);
    let configured = cloud_init::setting(tree, "renderers");
    let priority = configured.unwrap_or_else(|| PRIORITY.map(str::to_owned).to_vec());
    Network {
        managers: installed.map(|(name, _)| name.to_owned()).collect(),
        renderer: priority.into_iter().find(|renderer| is_available(tree, renderer)),
        is_networkd_enabled: tree.any_exists(&NETWORKD_UNITS),
    }
}

/// Whether cloud-init takes a renderer as available, by the files that it looks for.
fn is_available(tree: &Tree, renderer: &str) -> bool {
    match renderer {
        "eni" => {
            let tools = ["ifquery", "ifup", "ifdown"];
            tools.iter().all(|tool| has_program(tree, tool)) && tree.exists("/etc/network/interfaces")
        }
        "sysconfig" => tree.any_exists(&[
            "/etc/sysconfig/network-scripts/network-functions",
            "/etc/sysconfig/config",
            "/etc/sysconfig/network/scripts/functions.netconfig",
        ]),
        "netplan" => has_program(tree, "netplan"),
        "network-manager" => has_program(tree, "nmcli"),
        "networkd" => has_program(tree, "ip") && has_program(tree, "systemctl"),
        _ => false,
    }
}

fn has_program(tree: &Tree, name: &str) -> bool {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .any(|directory| tree.exists(&format!("{directory}/{name}")))
}

fn has_networkd(tree: &Tree) -> bool {
    tree.any_exists(&["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"])
}

pub(super) fn check(network: &Network, has_cloud_init: bool) -> Check {
    let managers = match network.managers.as_slice() {
        [] => "no known network manager".to_owned(),
        managers => managers.join(", "),
    };
    match network.renderer.as_deref() {
        _ if !has_cloud_init => {
            let hint = "it must configure its network with DHCP by itself, as there is no cloud-init";
            Check::warning(NAME, managers, hint)
        }
        None => {
            let hint = "install ifupdown, netplan, NetworkManager or systemd-networkd in the image: cloud-init cannot \
                        configure the network without";
            Check::warning(NAME, managers, hint)
        }
        Some("networkd") if !network.is_networkd_enabled => {
            let detail = format!("{managers}; cloud-init will use networkd, which does not start at boot");
            Check::warning(NAME, detail, "run `systemctl enable systemd-networkd` in the image")
        }
        Some(renderer) => Check::ok(NAME, format!("{managers}; cloud-init will use {renderer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn a_network_that_nothing_configures_is_a_warning() {
        let network = |renderer: Option<&str>, is_networkd_enabled| Network {
            managers: vec!["systemd-networkd".to_owned()],
            renderer: renderer.map(str::to_owned),
            is_networkd_enabled,
        };
        assert_eq!(check(&network(Some("eni"), false), true).outcome, Outcome::Ok);
        assert_eq!(check(&network(Some("networkd"), true), true).outcome, Outcome::Ok);
        assert_eq!(check(&network(Some("networkd"), false), true).outcome, Outcome::Warning);
        assert_eq!(check(&network(None, true), true).outcome, Outcome::Warning);
        assert_eq!(check(&network(Some("eni"), true), false).outcome, Outcome::Warning);
    }
}
