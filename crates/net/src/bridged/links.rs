//! Links, addresses and routes, through rtnetlink.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::address::BridgeAddress;
use super::namespace::{Namespace, on_own_thread};
use super::{BRIDGE, BridgedError, UPLINK};

/// The bridge's MAC address: locally administered, and visible only to this host's machines.
const BRIDGE_MAC: [u8; 6] = *b"\x02mimeo";

/// An rtnetlink connection to the network namespace of the current thread.
#[derive(Debug, Clone)]
pub(crate) struct Links(Handle);

/// Runs `body` with the links of this thread's namespace, on a separate thread: this thread may already run an
/// asynchronous runtime.
pub(crate) fn with<T: Send, F: Future<Output = Result<T, BridgedError>>>(
    body: impl FnOnce(Links) -> F + Send,
) -> Result<T, BridgedError> {
    on_own_thread(|| run(body))
}

fn run<T, F: Future<Output = Result<T, BridgedError>>>(
    body: impl FnOnce(Links) -> F,
) -> Result<T, BridgedError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(link_error("open a netlink socket"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(link_error("open a netlink socket"))?;
        let serving = tokio::spawn(connection);
        let done = body(Links(handle)).await;
        serving.abort();
        done
    })
}

impl Links {
    /// A link's index; none if there is no such link.
    pub(crate) async fn index(&self, name: &str) -> Result<Option<u32>, BridgedError> {
        let mut found = self.0.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) => match to_io_error(error) {
                error if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
                error => Err(link_error(format!("look up the link {name}"))(error)),
            },
        }
    }

    /// Names and aliases of all links whose name starts with `prefix`.
    pub(crate) async fn with_prefix(&self, prefix: &str) -> Result<HashMap<String, String>, BridgedError> {
        let all: Vec<LinkMessage> = self
            .0
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| link_error("list the links")(to_io_error(error)))?;
        let named = all.iter().filter_map(|link| {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if name.starts_with(prefix) => Some(name.clone()),
                _ => None,
            })?;
            let alias = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfAlias(alias) => Some(alias.clone()),
                _ => None,
            });
            Some((name, alias.unwrap_or_default()))
        });
        Ok(named.collect())
    }

    /// Creates the bridge with a fixed MAC address.
    ///
    /// Without one the kernel uses the lowest address of the bridge's links. That changes as machines start and stop,
    /// and every machine then has to resolve the gateway again.
    pub(crate) async fn add_bridge(&self) -> Result<u32, BridgedError> {
        let bridge = LinkBridge::new(BRIDGE).mcast_snooping(false).address(BRIDGE_MAC.to_vec());
        self.add(bridge.build(), BRIDGE).await?;
        self.require_index(BRIDGE).await
    }

    /// Creates a veth pair: [`UPLINK`] in this namespace, `outer` in `peer_namespace`.
    pub(crate) async fn add_pair(
        &self,
        outer: &str,
        peer_namespace: &Namespace,
    ) -> Result<u32, BridgedError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(outer)
            .setns_by_fd(peer_namespace.descriptor().as_raw_fd())
            .build();
        let pair = LinkVeth::new(UPLINK, outer).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        self.add(pair.build(), outer).await?;
        self.require_index(UPLINK).await
    }

    async fn add(&self, link: LinkMessage, name: &str) -> Result<(), BridgedError> {
        self.0.link().add(link).execute().await.map_err(|error| match to_io_error(error) {
            error if error.raw_os_error() == Some(libc::EEXIST) => {
                BridgedError::Exists { name: name.to_owned() }
            }
            error if error.kind() == io::ErrorKind::PermissionDenied => BridgedError::Privilege,
            error => link_error(format!("create the link {name}"))(error),
        })
    }

    async fn require_index(&self, name: &str) -> Result<u32, BridgedError> {
        let gone = || link_error(format!("find the link {name}"))(io::ErrorKind::NotFound.into());
        self.index(name).await?.ok_or_else(gone)
    }

    /// Attaches a link to the bridge.
    ///
    /// The other end of the link is a router that sends all traffic of its guest to
    /// the bridge itself: no frame goes directly from machine to machine. But where the
    /// host passes bridged frames to the packet filter (`bridge-nf-call-iptables`, as docker
    /// and Kubernetes set it), packets to a published port are redirected on the
    /// bridge and may have to leave by the link they arrived on (hairpin mode).
    pub(crate) async fn join(&self, name: &str, bridge: u32, alias: &str) -> Result<(), BridgedError> {
        let index = self.require_index(name).await?;
        let joined = LinkUnspec::new_with_index(index).controller(bridge).alias(alias);
        self.change(joined.build(), "attach a machine's link to the bridge").await?;
        let hairpin = LinkBridgePort::new(index).hairpin(true);
        self.change(hairpin.build(), "enable hairpin mode on a machine's link").await?;
        self.up(index).await
    }

    /// Sets a link up.
    pub(crate) async fn up(&self, index: u32) -> Result<(), BridgedError> {
        self.change(LinkUnspec::new_with_index(index).up().build(), "set a link up").await
    }

    async fn change(&self, link: LinkMessage, step: &str) -> Result<(), BridgedError> {
        self.0.link().change(link).execute().await.map_err(|error| link_error(step)(to_io_error(error)))
    }

    /// Removes a link if it exists. Returns when it is gone.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), BridgedError> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        match self.0.link().del(index).execute().await.map_err(to_io_error) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                Err(link_error(format!("remove the link {name}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Adds an address to a link.
    pub(crate) async fn add_address(&self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), BridgedError> {
        match self.0.address().add(index, ip, prefix).execute().await.map_err(to_io_error) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                Err(link_error(format!("add the address {ip}/{prefix}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Adds the default route via the bridge, and the host route to the bridge that it needs.
    pub(crate) async fn add_default_route(&self, index: u32, ip6: bool) -> Result<(), BridgedError> {
        let bridge = BridgeAddress::BRIDGE;
        let direct = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(bridge.ip(), 32)
            .output_interface(index)
            .scope(RouteScope::Link);
        let rest = RouteMessageBuilder::<Ipv4Addr>::new().gateway(bridge.ip()).output_interface(index);
        let mut routes = vec![direct.build(), rest.build()];
        if ip6 {
            let direct = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(bridge.ip6(), 128)
                .output_interface(index);
            let rest = RouteMessageBuilder::<Ipv6Addr>::new().gateway(bridge.ip6()).output_interface(index);
            routes.extend([direct.build(), rest.build()]);
        }
        for route in routes {
            let added = self.0.route().add(route).execute().await;
            added.map_err(|error| link_error("add a route in a machine's namespace")(to_io_error(error)))?;
        }
        Ok(())
    }
}

fn to_io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error),
    }
}

fn link_error(step: impl Into<String>) -> impl FnOnce(io::Error) -> BridgedError {
    let step = step.into();
    move |source| BridgedError::Link { step, source }
}
