//! Errors of bridged networking.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Why a machine cannot be attached to the bridge or detached from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgedError {
    /// This process lacks the capabilities to create links and namespaces.
    #[error(
        "bridged networking needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN): run as root, or with --network rootless, which needs no privilege"
    )]
    Privilege,
    /// The nft program, which applies the nftables table, is missing.
    #[error("nft, which bridged networking needs for its rules, is not installed: apt-get install nftables")]
    NoNft,
    /// nft exited with an error.
    #[error("nft refused the rules: {stderr}")]
    Nft {
        /// Its stderr.
        stderr: String,
    },
    /// A link of that name exists that mimeo did not create.
    #[error(
        "network link {name} exists already: if nothing else uses it, remove it with `ip link del {name}`"
    )]
    Exists {
        /// The link's name.
        name: String,
    },
    /// A route of this host overlaps the bridge's network.
    #[error(
        "{network}, the network of bridged machines, is in use on this host ({route}): use --network rootless"
    )]
    NetworkInUse {
        /// The bridge's network.
        network: &'static str,
        /// The conflicting route.
        route: String,
    },
    /// The requested address is not one that a machine can have.
    #[error("{ip} is not an address for a machine: --ip takes one from 10.202.0.2 to 10.202.255.254")]
    NotOnBridge {
        /// The address.
        ip: Ipv4Addr,
    },
    /// The requested address belongs to another machine.
    #[error("address {ip} is in use by another machine")]
    AddressInUse {
        /// The address.
        ip: Ipv4Addr,
    },
    /// All addresses on the bridge are in use.
    #[error("all 65533 addresses of 10.202.0.0/16 are in use")]
    Exhausted,
    /// The kernel refused a link, an address or a route.
    #[error("cannot {step}")]
    Link {
        /// The operation that failed.
        step: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// The operation that failed.
        step: &'static str,
        /// The file it failed on.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A fault that the fake host injects.
    #[error("{step} failed: injected fault")]
    Injected {
        /// The operation that failed.
        step: &'static str,
    },
}

impl BridgedError {
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}
