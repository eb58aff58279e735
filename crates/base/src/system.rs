//! The system in a root filesystem: what is known of it, and what that means for machines.

mod architecture;
mod cloud_init;
pub(crate) mod init;
mod kernels;
mod machine_id;
mod network;
pub(crate) mod os_release;
mod packages;
mod ssh;
mod yaml;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::tree::Tree;
pub use cloud_init::CloudInit;
pub use init::Init;
pub use kernels::Kernels;
pub use machine_id::MachineId;
pub use network::Network;
pub use os_release::OsRelease;
use packages::Packages;

/// What is known of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Its os-release.
    pub os: Option<OsRelease>,
    /// The architecture of its init, as Rust names it, such as `x86_64`.
    pub architecture: Option<String>,
    /// Its init.
    pub init: Option<Init>,
    /// Its cloud-init; `None` if there is none.
    pub cloud_init: Option<CloudInit>,
    /// How it configures its network.
    pub network: Network,
    /// Its kernels, which mimeo does not start.
    pub kernels: Kernels,
    /// Its machine-id.
    pub machine_id: MachineId,
    /// Its SSH server, such as `sshd`.
    pub ssh_server: Option<String>,
}

impl System {
    pub(crate) fn inspect(tree: &Tree) -> Self {
        let packages = Packages::read(tree);
        let init = init::find(tree).map(|found| found.with_version(tree, &packages));
        Self {
            os: os_release::read(tree),
            architecture: init.as_ref().and_then(|init| architecture::read(tree, &init.target)),
            init,
            cloud_init: cloud_init::find(tree, &packages),
            network: network::inspect(tree),
            kernels: kernels::find(tree),
            machine_id: machine_id::read(tree),
            ssh_server: ssh::find(tree),
        }
    }
}

/// The checks of a system.
pub(crate) fn checks(system: &System) -> Vec<Check> {
    vec![
        architecture::check(system.architecture.as_deref(), std::env::consts::ARCH),
        init::check(system.init.as_ref()),
        cloud_init::check(system.cloud_init.as_ref()),
        network::check(&system.network, system.cloud_init.is_some()),
        kernels::check(&system.kernels),
        machine_id::check(system.machine_id),
        ssh::check(system.ssh_server.as_deref()),
    ]
}
