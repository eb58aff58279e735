//! Why a machine cannot be on the bridge.

use std::io;
use std::path::PathBuf;

/// Why a machine cannot be connected to the bridge, or taken off it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgedError {
    /// This process may not make links and namespaces.
    #[error(
        "bridged networking needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN): run as root, or with --network rootless, which needs no privilege"
    )]
    Privilege,
    /// The program that speaks for the kernel's packet filter is not there.
    #[error("nft, which bridged networking sets its rules with, is not installed: apt-get install nftables")]
    NoNft,
    /// It refused.
    #[error("nft refused the rules: {said}")]
    Nft {
        /// Its words.
        said: String,
    },
    /// A link of that name is there, and none of ours.
    #[error(
        "there is a network link {name} already: if nothing else uses it, remove it with `ip link del {name}`"
    )]
    Exists {
        /// Its name.
        name: String,
    },
    /// The bridge's network is somebody else's here.
    #[error(
        "{network} is in use on this host ({route}), and bridged machines live there: use --network rootless"
    )]
    Taken {
        /// Ours.
        network: &'static str,
        /// What is in its way.
        route: String,
    },
    /// Every address on the bridge is taken.
    #[error("all 65533 addresses of 10.202.0.0/16 are in use")]
    Exhausted,
    /// The kernel refused a link, an address or a route.
    #[error("cannot {step}")]
    Link {
        /// What was tried.
        step: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What a fake host was told to fail.
    #[error("{step} failed, as it was told to")]
    Told {
        /// What was tried.
        step: &'static str,
    },
}

impl BridgedError {
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}
