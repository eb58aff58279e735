//! What bridged networking needs of a host: the kernel, or a fake of it.

use std::collections::HashMap;
use std::fmt;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::namespace::Namespace;
use super::outer::Outer;
use super::rules::Element;
use super::{BridgedError, TapUse};

/// A host's links and rules. All but [`Host::stale_marks`] is asked for by who holds the lock.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// Waits until nobody else changes anything. Dropping what it gives lets others.
    fn lock(&self) -> Result<Box<dyn Send>, BridgedError>;

    /// Makes sure of the bridge and of the host's settings.
    fn prepare(&self) -> Result<(), BridgedError>;

    /// The machines that have a link on the bridge, by id.
    fn attached(&self) -> Result<HashMap<String, Outer>, BridgedError>;

    /// Gives a machine its namespace, and that its link on the bridge. Whole or not at all.
    fn connect(&self, id: &str, outer: Outer, tap: TapUse) -> Result<Connected, BridgedError>;

    /// Takes a machine's link off the bridge, and its mark away. One that has none is well.
    fn disconnect(&self, id: &str) -> Result<(), BridgedError>;

    /// The ids of machines whose mark is still there although their supervisor has exited.
    fn stale_marks(&self) -> Vec<String>;

    /// Makes sure of the table.
    fn ensure_table(&self) -> Result<(), BridgedError>;

    /// Adds elements to the table as those of the machine `id`: all or none.
    fn add(&self, elements: &[Element], id: &str) -> Result<(), BridgedError>;

    /// Takes elements of the table away: all or none.
    fn delete(&self, elements: &[Element]) -> Result<(), BridgedError>;

    /// The rules as they are.
    fn rules(&self) -> Result<Option<serde_json::Value>, BridgedError>;

    /// Takes the bridge and the rules away: nobody is left.
    fn remove_bridge(&self) -> Result<(), BridgedError>;
}

/// What a machine has of the network.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Holds all that is in it.
    pub(crate) namespace: Option<Namespace>,
    /// The TAP device, where it was to be had so.
    pub(crate) tap: Option<OwnedFd>,
    /// Where its guest asks for names.
    pub(crate) dns_sockets: Option<(UdpSocket, TcpListener)>,
}
