//! The operations that bridged networking needs from a host: the kernel, or a fake.

use std::collections::HashMap;
use std::fmt;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::address::BridgeAddress;
use super::namespace::Namespace;
use super::rules::Element;
use super::{BridgedError, TapUse};

/// A host's links and rules. The caller must hold the lock, except for [`Host::stale_marks`].
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// Waits for the host-wide lock. Dropping the returned value releases it.
    fn lock(&self) -> Result<Box<dyn Send>, BridgedError>;

    /// Creates the bridge if it does not exist, and applies the host's settings.
    fn prepare(&self) -> Result<(), BridgedError>;

    /// The machines that have a link on the bridge, by id, with their addresses.
    fn attached(&self) -> Result<HashMap<String, BridgeAddress>, BridgedError>;

    /// Creates a machine's namespace and its link on the bridge. On failure nothing is left.
    fn connect(&self, id: &str, address: BridgeAddress, tap: TapUse) -> Result<Connected, BridgedError>;

    /// Removes a machine's link and mark. Missing ones are not an error.
    fn disconnect(&self, id: &str) -> Result<(), BridgedError>;

    /// The ids of machines whose mark still exists although their supervisor has exited.
    fn stale_marks(&self) -> Vec<String>;

    /// Applies the nftables table unless it is known to be complete.
    fn ensure_table(&self) -> Result<(), BridgedError>;

    /// Adds elements to the table that belong to the machine `id`: all or none.
    fn add(&self, elements: &[Element], id: &str) -> Result<(), BridgedError>;

    /// Deletes elements from the table: all or none.
    fn delete(&self, elements: &[Element]) -> Result<(), BridgedError>;

    /// The current table in nft's JSON; none if it does not exist.
    fn rules(&self) -> Result<Option<serde_json::Value>, BridgedError>;

    /// Removes the bridge and the table, once no machine is attached.
    fn remove_bridge(&self) -> Result<(), BridgedError>;
}

/// A machine's network resources.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Keeps the namespace and all its links alive.
    pub(crate) namespace: Option<Namespace>,
    /// The TAP device's descriptor, with [`TapUse::Descriptor`].
    pub(crate) tap: Option<OwnedFd>,
    /// The sockets that receive the guest's DNS queries.
    pub(crate) dns_sockets: Option<(UdpSocket, TcpListener)>,
}
